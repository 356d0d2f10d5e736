// Package infile reads the files that an operator names: bounded, without waiting for a pipe or a
// device, and not where every user could have written them.
package infile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Limits, in bytes.
const (
	Small  = 64 << 10 // settings, URLs, tokens, keys
	Middle = 1 << 20  // migration files, certificates
	Large  = 64 << 20 // reports
)

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// Error is a file that is not taken as input. It names the file and not its content.
type Error struct {
	Path string
	err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Path + " " + e.err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

func refused(path, format string, args ...any) error {
	return &Error{path, fmt.Errorf(format, args...)}
}

var stdin = sync.OnceValues(func() ([]byte, error) { return bounded(Stdin, os.Stdin, Middle) })

// Read reads a regular file of at most limit bytes; of "-" the standard input, of which a second
// Read returns the same; of the null device nothing. Its error is an *Error.
func Read(path string, limit int64) ([]byte, error) {
	switch path {
	case Stdin:
		return stdin()
	case os.DevNull:
		return nil, nil
	}
	// Without O_NONBLOCK opening a pipe waits for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, explain(path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, explain(path, err)
	case !info.Mode().IsRegular():
		return nil, refused(path, "is %s: want a regular file", kind(info.Mode()))
	case info.Mode()&0o002 != 0:
		return nil, refused(path, "can be written by every user of this machine, who could change what is done: chmod o-w it first")
	case info.Size() > limit:
		return nil, refused(path, "has %d bytes, and may have %d", info.Size(), limit)
	}
	return bounded(path, f, limit)
}

// Text is Read of a small file, without blanks around its content; "" is an error.
func Text(path string) (string, error) {
	data, err := Read(path, Small)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", refused(path, "is empty")
	}
	return text, nil
}

// Exposed reports whether every user of the machine may read a file.
func Exposed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o004 != 0
}

func bounded(path string, f io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, explain(path, err)
	case int64(len(data)) > limit:
		return nil, refused(path, "has more than %d bytes", limit)
	}
	return data, nil
}

// explain leaves out the path, which the Error has.
func explain(path string, err error) error {
	var at *fs.PathError
	cause := err
	if errors.As(err, &at) {
		cause = at.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Error{path, fmt.Errorf("does not exist: %w", cause)}
	case errors.Is(err, fs.ErrPermission):
		return &Error{path, fmt.Errorf("can't be read by this user: %w", cause)}
	}
	return &Error{path, fmt.Errorf("can't be read: %w", cause)}
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "no file"
}
