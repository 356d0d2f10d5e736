package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Processes are the daemons of a drill: two of its own, of which it kills the leader, or one
// beside a process that the operator has named, which it kills.
type Processes struct {
	Program string   // migrator
	Args    []string // of a daemon that logs JSON, and ends when its standard input does
	Env     []string
	Named   int // process to kill; 0: one of the drill's own

	all []*ownDaemon
}

// ownDaemon is a daemon that the drill has started.
type ownDaemon struct {
	cmd     *exec.Cmd
	stdin   io.Closer // the daemon ends when this closes, also because the drill was killed
	address chan string
	url     string
	ended   chan struct{}
	mu      sync.Mutex
	last    string // line of its log
}

// leadWithin is how long the daemons may take to listen, and one of them to lead: more than a
// busy machine needs. It is no part of what the drill measures.
const leadWithin = 2 * time.Minute

// Start implements Daemons.
func (d *Processes) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadWithin)
	defer cancel()
	count := 2
	if d.Named > 0 {
		if err := signalTo(d.Named, syscall.Signal(0)); err != nil {
			return fmt.Errorf("there is no process %d to kill: %w", d.Named, err)
		}
		count = 1
	}
	for range count {
		if err := d.start(ctx); err != nil {
			return err
		}
	}
	if d.Named > 0 {
		return nil
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for d.leader(ctx) == nil {
		select {
		case <-ctx.Done():
			return hint.Errorf(hint.Hint{Text: "stop it for the drill, or name its process as the one to kill, or let the drill kill no daemon"},
				"none of the drill's daemons leads: another daemon does")
		case <-tick.C:
		}
	}
	return nil
}

func (d *Processes) start(ctx context.Context) error {
	one := &ownDaemon{address: make(chan string, 1), ended: make(chan struct{})}
	one.cmd = exec.Command(d.Program, d.Args...) //nolint:gosec,noctx // migrator itself; it ends with Kill or Stop
	one.cmd.Env = d.Env
	out, err := one.cmd.StderrPipe()
	if err == nil {
		one.stdin, err = one.cmd.StdinPipe()
	}
	if err == nil {
		err = one.cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start a daemon: %w", err)
	}
	d.all = append(d.all, one)
	go one.listen(bufio.NewScanner(out))
	select {
	case address := <-one.address:
		one.url = "http://" + address
		return nil
	case <-one.ended:
		return fmt.Errorf("a daemon of the drill ended: %s", one.lastLog())
	case <-ctx.Done():
		return fmt.Errorf("a daemon of the drill does not listen: %s", one.lastLog())
	}
}

func (o *ownDaemon) listen(lines *bufio.Scanner) {
	defer close(o.ended)
	for lines.Scan() {
		var entry struct {
			Msg     string `json:"msg"`
			Address string `json:"address"`
		}
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			o.address <- entry.Address
		}
		o.mu.Lock()
		o.last = lines.Text()
		o.mu.Unlock()
	}
	_ = o.cmd.Wait()
}

func (o *ownDaemon) lastLog() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// leads queries the daemon's health check.
func (o *ownDaemon) leads(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url+"/healthz", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	var health struct {
		Role string `json:"role"`
	}
	return json.NewDecoder(answer.Body).Decode(&health) == nil && health.Role == "leader"
}

func (d *Processes) leader(ctx context.Context) *ownDaemon {
	for _, one := range d.all {
		if one.leads(ctx) {
			return one
		}
	}
	return nil
}

// Own returns how many daemons the drill has started, and whether one of them leads.
func (d *Processes) Own(ctx context.Context) (started int, leads bool) {
	return len(d.all), d.leader(ctx) != nil
}

// Kill implements Daemons. It sends SIGKILL, so that the daemon can release nothing.
func (d *Processes) Kill() (string, error) {
	if d.Named > 0 {
		return fmt.Sprintf("process %d", d.Named), signalTo(d.Named, os.Kill)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	one := d.leader(ctx)
	if one == nil {
		return "", errors.New("none of the drill's daemons leads any longer")
	}
	if err := one.cmd.Process.Kill(); err != nil {
		return "", err
	}
	<-one.ended
	return fmt.Sprintf("process %d, the leading daemon,", one.cmd.Process.Pid), nil
}

// Stop implements Daemons.
func (d *Processes) Stop() {
	for _, one := range d.all {
		_ = one.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	for _, one := range d.all {
		select {
		case <-one.ended:
		case <-time.After(10 * time.Second):
			_ = one.cmd.Process.Kill()
			<-one.ended
		}
	}
}

func signalTo(pid int, signal os.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(signal)
}
