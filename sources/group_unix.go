//go:build unix

package sources

import (
	"os/exec"
	"syscall"
)

// own has the command run in a process group of its own, which is killed with it.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		killGroup(cmd)
		return cmd.Process.Kill()
	}
}

// killGroup kills what is left of the group. While one process of it lives its id is no
// other's; once none does, the kernel would have to go round all ids between the wait
// and this call.
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
