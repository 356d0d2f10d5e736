//go:build unix

package testenv

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
	sigKill = syscall.SIGKILL
	sigInt  = syscall.SIGINT
	sigTerm = syscall.SIGTERM
	sigQuit = syscall.SIGQUIT
)

const supported = true

// tryLock takes an exclusive flock without waiting; false: another process has it. The lock
// ends with the process, however that ends.
func tryLock(f *os.File) (bool, error) { return flock(f, syscall.LOCK_EX|syscall.LOCK_NB) }

func waitLock(f *os.File) error {
	_, err := flock(f, syscall.LOCK_EX)
	return err
}

func waitSharedLock(f *os.File) error {
	_, err := flock(f, syscall.LOCK_SH)
	return err
}

func flock(f *os.File, how int) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		default:
			return false, os.NewSyscallError("flock", err)
		}
	}
}

func sendSignal(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

// ownedBy reports whether the file belongs to uid.
func ownedBy(fi os.FileInfo, uid int) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// removeSharedMemory removes a System V segment of a killed postmaster. A segment in use
// remains until its last user has ended.
func removeSharedMemory(id int) { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) }

// asAccount returns the attributes of a child that runs as acct in a process group of its own,
// so that Ctrl-C at the terminal reaches the owner alone.
func asAccount(acct account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if acct.switched {
		attr.Credential = &syscall.Credential{Uid: uint32(acct.uid), Gid: uint32(acct.gid)}
	}
	return attr
}
