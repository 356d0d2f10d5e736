package drill

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Writable returns an error if a report can't be written to the directory. A drill checks
// that before it begins.
func Writable(dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return hint.Errorf(hint.Hint{Text: "mkdir -p " + dir}, "%s: there is no such directory", dir)
	}
	probe, err := os.CreateTemp(dir, ".drill-")
	if err != nil {
		return fmt.Errorf("%s: not writable: %w", dir, err)
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// File returns the path that a report is written to, as "json", "md" or "html".
func (r Report) File(dir, kind string) string {
	return filepath.Join(dir, fmt.Sprintf("drill-%s-%d.%s", r.Migration, r.Drill, kind))
}

// WriteFiles writes the report to the directory as JSON, as Markdown and as one HTML
// page, and returns the names of the files.
func (r Report) WriteFiles(dir string) ([]string, error) {
	page, err := r.Page()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, f := range []struct {
		kind string
		text []byte
	}{{"json", append(text, '\n')}, {"md", []byte(r.Markdown())}, {"html", page}} {
		name := r.File(dir, f.kind)
		if err := os.WriteFile(name, f.text, 0o644); err != nil { //nolint:gosec // it has no secret
			return files, fmt.Errorf("write the report: %w", err)
		}
		files = append(files, name)
	}
	return files, nil
}
