package testenv

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// beOwner starts servers, prints the directories of its temporary files and of the servers, and
// waits to be killed.
func beOwner(role string) {
	ctx := context.Background()
	if role == "go command" { // a parent named go, whose child is an owner
		child := exec.Command(os.Getenv("TESTENV_CHILD"))
		child.Env = append(os.Environ(), "TESTENV_ROLE=running")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		panic(child.Run())
	}
	if err := Scratch(); err != nil {
		panic(err)
	}
	pg, err := StartPostgres(ctx, PostgresOptions{})
	if err != nil {
		panic(err)
	}
	rd, err := StartRedis(ctx, RedisOptions{})
	if err != nil {
		panic(err)
	}
	if role == "paused" { // frozen servers do not die by a signal that they can handle
		if err := pg.Pause(); err != nil {
			panic(err)
		}
		if err := rd.Pause(); err != nil {
			panic(err)
		}
	}
	fmt.Printf("%s %s %s\n", os.TempDir(), pg.dir.path, rd.dir.path)
	select {}
}

// directories reads the line that an owner prints.
func directories(t *testing.T, out io.Reader) []string {
	t.Helper()
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	dirs := strings.Fields(line)
	if len(dirs) != 3 {
		t.Fatalf("the owner printed %q", line)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// awaitGone waits until the directories are removed and no process works in them.
func awaitGone(t *testing.T, dirs []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, await(ctx, 5*time.Millisecond, "the sweep to end", func() (bool, error) {
		for _, dir := range dirs {
			if _, err := os.Stat(dir); !os.IsNotExist(err) || len(processesIn(dir)) > 0 {
				return false, nil
			}
		}
		return true, nil
	}))
}

// TestEndsWithItsGoCommand: a test binary whose go command is killed ends, with its servers.
func TestEndsWithItsGoCommand(t *testing.T) {
	t.Parallel()
	if programOf(os.Getpid()) == "" {
		t.Skip("this system does not tell a process's program")
	}
	program, err := os.ReadFile(os.Args[0])
	must(t, err)
	named := filepath.Join(t.TempDir(), "go")
	must(t, os.WriteFile(named, program, 0o700))
	parent := exec.Command(named)
	parent.Env = append(os.Environ(), "TESTENV_ROLE=go command", "TESTENV_CHILD="+os.Args[0])
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	dirs := directories(t, out)
	must(t, parent.Process.Kill())
	// Its temporary files it removes by itself; the servers it started are swept.
	awaitGone(t, dirs[:1])
	_ = parent.Wait()
	Redis(t)
	awaitGone(t, dirs)
}

func TestNextStartSweepsAfterKilledOwner(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"running", "paused"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			owner := exec.Command(os.Args[0])
			owner.Env = append(os.Environ(), "TESTENV_ROLE="+role)
			owner.Stderr = os.Stderr
			out, err := owner.StdoutPipe()
			must(t, err)
			must(t, owner.Start())
			dirs := directories(t, out)
			for _, dir := range dirs[1:] {
				if len(processesIn(dir)) == 0 {
					t.Fatalf("no process works in %s", dir)
				}
			}
			must(t, owner.Process.Kill())
			_ = owner.Wait()
			if role == "running" { // these die with their owner, without a sweep
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				must(t, await(ctx, 5*time.Millisecond, "servers to die with their owner", func() (bool, error) {
					return len(processesIn(dirs[1]))+len(processesIn(dirs[2])) == 0, nil
				}))
			}
			Redis(t)           // the next start
			awaitGone(t, dirs) // another test's start may run the sweep, and may not be finished
		})
	}
}

func TestSweepSparesLiveServers(t *testing.T) {
	t.Parallel()
	s := Redis(t)
	Redis(t)
	if _, err := os.Stat(s.dir.path); err != nil {
		t.Fatal(err)
	}
	must(t, dial(t, s.URL()).Ping(t.Context()).Err())
}

func TestStopRemovesEverything(t *testing.T) {
	t.Parallel()
	s, err := StartPostgres(t.Context(), PostgresOptions{})
	must(t, err)
	must(t, s.Kill())
	must(t, s.Stop(t.Context()))
	must(t, s.Stop(t.Context()))
	if _, err := os.Stat(s.dir.path); !os.IsNotExist(err) {
		t.Fatalf("%s: %v", s.dir.path, err)
	}
	if left := processesIn(s.dir.path); len(left) > 0 {
		t.Fatalf("processes %v", left)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Fatal("a server stopped for good restarts")
	}
	if got := filepath.Dir(s.dir.path); got != baseDir() {
		t.Fatalf("in %s", got)
	}
}
