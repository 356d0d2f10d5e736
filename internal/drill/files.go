package drill

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Writable tells early that a report could not be written to the directory.
func Writable(dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s: there is no such directory; try: mkdir -p %s", dir, dir)
	}
	probe, err := os.CreateTemp(dir, ".drill-")
	if err != nil {
		return fmt.Errorf("%s: nothing can be written there: %w", dir, err)
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// File is where a report is written to, as "json", "md" or "html".
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
		if err := os.WriteFile(name, f.text, 0o644); err != nil { //nolint:gosec // it holds no secret
			return files, fmt.Errorf("write the report: %w", err)
		}
		files = append(files, name)
	}
	return files, nil
}
