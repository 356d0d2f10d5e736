//go:build unix

package badinput

import (
	"io/fs"
	"syscall"
)

func special(path string, mode fs.FileMode) error {
	if mode.Type() == fs.ModeNamedPipe {
		return syscall.Mkfifo(path, 0o600)
	}
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(socket) }()
	return syscall.Bind(socket, &syscall.SockaddrUnix{Name: path})
}
