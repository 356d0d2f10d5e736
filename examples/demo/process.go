package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// migrator runs one of migrator's own commands, printed with its output. It must
// exit with the given code.
func (d *demo) migrator(ctx context.Context, code int, args ...string) error {
	got, err := d.migratorCode(ctx, args...)
	if err == nil && got != code {
		return fmt.Errorf("migrator %s exited with %d, not with %d", strings.Join(args, " "), got, code)
	}
	return err
}

// migratorCode returns the exit code, whatever it is.
func (d *demo) migratorCode(ctx context.Context, args ...string) (int, error) {
	return d.run(ctx, "migrator", d.program, args, args...)
}

// storefront runs one of the shop's commands in the same way.
func (d *demo) storefront(ctx context.Context, args ...string) error {
	code, err := d.run(ctx, "storefront", d.self, args, append([]string{"storefront"}, args...)...)
	if err == nil && code != 0 {
		return fmt.Errorf("storefront %s exited with %d", strings.Join(args, " "), code)
	}
	return err
}

// Exit codes of migrator.
const (
	exitDone   = 0
	exitNotYet = 8
)

// maxLines bounds the output of one command, such as findings.
const maxLines = 60

func (d *demo) run(ctx context.Context, name, program string, shown []string, args ...string) (code int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	fmt.Fprintf(d.Out, "  %s\n", d.paint("1", "$ "+name+" "+quoted(shown)))
	cmd := d.command(ctx, program, args...)
	out := &indented{to: d.Out, limit: maxLines}
	cmd.Stdout, cmd.Stderr = out, out // one writer for both: exec then writes from one goroutine
	err = cmd.Run()
	if more := out.lines - maxLines; more > 0 {
		d.say("  ... and %d more lines", more)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// command is a child process that gets SIGTERM before it is killed.
func (d *demo) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // migrator, or this program
	cmd.Env, cmd.Dir = d.environment(), d.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

func quoted(args []string) string {
	shown := slices.Clone(args)
	for i, a := range shown {
		if strings.ContainsAny(a, " '\"$") {
			shown[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(shown, " ")
}

// child is a process that runs in the background: an instance of the shop, or the daemon.
type child struct {
	name, url string    // url: of an instance
	logs      string    // file
	stdin     io.Closer // the child ends when this closes, also if the demo was killed
	cancel    context.CancelFunc
	stopping  atomic.Bool
	ended     chan struct{}
	err       error // once ended
}

// start starts a child. If the child ends before stop, the demo ends.
func (d *demo) start(ctx context.Context, name string, stdout io.WriteCloser, program string, args ...string) (*child, error) {
	s := &child{name: name, logs: filepath.Join(d.dir, name+".log"), ended: make(chan struct{})}
	file, err := os.Create(s.logs)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	// It runs until stop, also after ctx has ended: end stops processes in its own order.
	var alive context.Context
	alive, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	cmd := d.command(alive, program, args...)
	cmd.Stdout, cmd.Stderr = stdout, file
	if s.stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.cancel()
		return nil, err
	}
	go func() {
		err := cmd.Wait()
		_ = stdout.Close()
		clean := s.stopping.Load() && (err == nil || errors.Is(err, context.Canceled))
		if !clean && !d.interrupted() { // Ctrl-C reaches the child too, perhaps first
			s.err = fmt.Errorf("%s exited unexpectedly (%s); its log:\n%s", name, cmd.ProcessState, s.log())
			d.fail(s.err)
		}
		close(s.ended)
	}()
	return s, nil
}

// startShop starts an instance and returns when it accepts requests.
func (d *demo) startShop(ctx context.Context, name string) (*child, error) {
	args := []string{
		"serve", "--listen", "127.0.0.1:0", "--migration", "products.yaml", "--instance", name,
		"--breaker-pause", "1s", "--hand-in", "500ms", "--shadow", "100",
	}
	fmt.Fprintf(d.Out, "  %s\n", d.paint("1", "$ storefront "+quoted(args)+" &"))
	read, write := io.Pipe()
	s, err := d.start(ctx, name, write, d.self, append([]string{"storefront"}, args...)...)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "serving on "); ok {
			s.url = url
			fmt.Fprintf(&indented{to: d.Out}, "%s\n", lines.Text())
			go func() { _, _ = io.Copy(io.Discard, read) }()
			return s, nil
		}
	}
	<-s.ended
	return nil, errors.Join(s.err, ctx.Err())
}

// startDaemon starts the daemon, as a drill does: so it ends if this process is killed.
func (d *demo) startDaemon(ctx context.Context) (*child, error) {
	args := []string{"--listen", "127.0.0.1:0"}
	fmt.Fprintf(d.Out, "  %s\n", d.paint("1", "$ migrator serve "+quoted(args)+" &"))
	read, write := io.Pipe()
	go func() { _, _ = io.Copy(io.Discard, read) }()
	return d.start(ctx, "daemon", write, d.program, append([]string{"drill", "daemon"}, args...)...)
}

// stop ends the child gracefully: an instance finishes its requests and leaves the fleet.
func (s *child) stop() error {
	s.stopping.Store(true)
	s.cancel()
	<-s.ended
	_ = s.stdin.Close()
	return s.err
}

// log is the end of the child's log.
func (s *child) log() []byte {
	const most = 4 << 10
	text, _ := os.ReadFile(s.logs)
	return text[max(0, len(text)-most):]
}

// indented indents each line. Use one for each stream: it keeps whether a line has begun.
type indented struct {
	to     io.Writer
	inside bool
	limit  int // of lines; 0: none
	lines  int
}

func (w *indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if !w.inside {
			line = append([]byte("    "), line...)
			w.lines++
		}
		w.inside = !bytes.HasSuffix(line, []byte("\n"))
		if w.limit > 0 && w.lines > w.limit {
			continue
		}
		if _, err := w.to.Write(line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
