//go:build unix && !linux

package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Here a child outlives a killed parent; the next start sweeps it.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

func freeMemory(string) int64 { return 0 }

func ps(args ...string) []string {
	out, _ := exec.Command("ps", args...).Output() //nolint:gosec // fixed program, our own arguments
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func state(pid int) string {
	return strings.TrimSpace(ps("-o", "stat=", "-p", strconv.Itoa(pid))[0])
}

func running(pid int) bool {
	s := state(pid)
	return s != "" && !strings.HasPrefix(s, "Z")
}

func programOf(pid int) string {
	return filepath.Base(strings.TrimSpace(ps("-o", "comm=", "-p", strconv.Itoa(pid))[0]))
}

func stopped(pid int) bool { return strings.HasPrefix(state(pid), "T") }

func startTime(pid int) string {
	return strings.TrimSpace(ps("-o", "lstart=", "-p", strconv.Itoa(pid))[0])
}

func childrenOf(pid int) (children []int) {
	for _, line := range ps("-axo", "pid=,ppid=") {
		f := strings.Fields(line)
		if len(f) == 2 && f[1] == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(f[0]); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// processesIn uses the recorded pid of the server only if that process is still a server of
// this kind.
func processesIn(dir string) []int {
	raw, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || !running(pid) {
		return nil
	}
	command := ps("-o", "command=", "-p", strconv.Itoa(pid))[0]
	if !strings.Contains(command, dir) && !strings.Contains(command, "redis-server 127.0.0.1:") {
		return nil
	}
	return append(childrenOf(pid), pid)
}

func ephemeralLow() int { return 49152 }
