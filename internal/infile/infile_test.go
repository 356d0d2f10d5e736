//go:build unix

package infile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stranglerfig/migrator/internal/infile"
)

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("plain", " text\n", 0o640)
	write("empty", "\n", 0o600)
	write("public", "text", 0o644)
	write("open", "text", 0o666)
	write("full", strings.Repeat("x", 1000), 0o600)
	write("large", strings.Repeat("x", 1001), 0o600)
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("plain"), at("link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		at("plain"): "", at("link"): "", at("public"): "", at("full"): "",
		at("open"):           "can be written by every user",
		at("large"):          "has 1001 bytes, and may have 1000",
		at("pipe"):           "is a pipe: want a regular file",
		at("nowhere"):        "does not exist",
		dir:                  "is a directory",
		"/dev/zero":          "is a device",
		"/proc/kmsg":         "",
		"/proc/self/environ": "",
	} {
		data, err := infile.Read(path, 1000)
		var refused *infile.Error
		switch {
		case strings.HasPrefix(path, "/proc"): // its size is not known beforehand: bounded, whatever comes
			if len(data) > 1000 {
				t.Errorf("%s: %d bytes", path, len(data))
			}
		case want == "" && (err != nil || len(data) == 0):
			t.Errorf("%s: %q, %v", path, data, err)
		case want != "" && (err == nil || !errors.As(err, &refused) || refused.Path != path || !strings.HasPrefix(err.Error(), path+" "+want)):
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, err := infile.Text(at("plain")); err != nil || text != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := infile.Text(at("empty")); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Error(err)
	}
	if !infile.Exposed(at("public")) || infile.Exposed(at("plain")) || infile.Exposed(at("nowhere")) {
		t.Error("which files every user may read")
	}
	if _, err := infile.Read(at("nowhere"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
