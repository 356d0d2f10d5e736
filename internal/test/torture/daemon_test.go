//go:build unix

package torture

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// daemon is a `migrator serve` that is restarted whenever it ends, as by an init system, with
// its own wires to the servers.
type daemon struct {
	w     *world
	name  string
	wires []*wire // legacy, state, target
	log   string

	mu      sync.Mutex
	process *os.Process // nil: not running
	starts  int
}

func (w *world) newDaemon(name string) (*daemon, error) {
	d := &daemon{w: w, name: name, log: filepath.Join(w.dir, name+".log")}
	var err error
	d.wires, err = w.newWires(name)
	return d, err
}

// supervise keeps it running until ctx ends.
func (d *daemon) supervise(ctx context.Context) error {
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	for ctx.Err() == nil {
		if err := d.once(ctx, log); err != nil {
			return err
		}
		pause(ctx, 200*time.Millisecond)
	}
	return d.collectLog()
}

func (d *daemon) once(ctx context.Context, log *os.File) error {
	urls, err := d.w.urls(d.wires)
	if err != nil {
		return err
	}
	cmd := exec.Command(d.w.program, "serve", "--listen", "127.0.0.1:0", "--log-format", "json")
	cmd.Env = environment("MIGRATOR_STATE_URL="+urls[1], "MIGRATOR_FILE="+d.w.file, "TORTURE_LEGACY_URL="+urls[0], "TORTURE_TARGET_URL="+urls[2])
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, d.w.dir
	if err := d.w.spawner.start(ctx, cmd); err != nil {
		return nil // ctx has ended
	}
	d.mu.Lock()
	d.process = cmd.Process
	d.starts++
	d.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		d.w.events.add(d.name, "the daemon ended (%v)", err)
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			d.w.t.Errorf("the daemon %s does not end on SIGTERM", d.name)
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	d.mu.Lock()
	d.process = nil
	d.mu.Unlock()
	return nil
}

// collectLog adds its log to the event log.
func (d *daemon) collectLog() error {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err
	}
	if at := bytes.Index(text, []byte("panic:")); at >= 0 {
		d.w.t.Errorf("the daemon %s panicked:\n%s", d.name, text[at:min(len(text), at+4000)])
	}
	d.w.events.addLog(d.name, bytes.NewReader(text))
	return nil
}

func (d *daemon) signal(sig os.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process != nil {
		d.w.events.add(d.name, "signal to the daemon: %s", sig)
		_ = d.process.Signal(sig)
	}
}

func (d *daemon) freeze(ctx context.Context, long time.Duration) {
	d.signal(syscall.SIGSTOP)
	pause(ctx, long)
	d.signal(syscall.SIGCONT)
}
