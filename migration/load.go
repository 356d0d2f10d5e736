package migration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/infile"
)

// Loader reads migration files.
type Loader struct {
	Kinds []Kind // of store that a file may name
	// Schedule reports why a cron expression is none; nil: schedules are not checked. An
	// application runs none of them, and does not link what reads them.
	Schedule func(text string) error
}

// Load reads a migration file of the kinds of store, as an application does.
func Load(path string, kinds ...Kind) (*Config, error) { return Loader{Kinds: kinds}.Load(path) }

// Parse is Load of a text: see [Loader.Parse].
func Parse(name string, data []byte, getenv func(string) (string, bool), kinds ...Kind) (*Config, error) {
	return Loader{Kinds: kinds}.Parse(name, data, getenv)
}

// Load reads a migration file, with the process's environment. The error is an Errors
// where the file was read but is wrong.
func (l Loader) Load(path string) (*Config, error) {
	data, err := infile.Read(path, infile.Middle)
	if err != nil {
		return nil, fmt.Errorf("the migration file: %w", err)
	}
	if path == infile.Stdin {
		path = "stdin"
	}
	return l.Parse(path, data, os.LookupEnv)
}

// Parse reads a migration file: strict YAML, one document, no unknown keys. In texts,
// ${NAME} and ${NAME:-default} are replaced by environment variables after the
// YAML has been parsed, $$ by a dollar sign. A missing key has its default; zeros that
// are given stay zeros. URLs in files (url_file, relative to the directory of name)
// are read.
//
// name is used in errors, which are an Errors: all that is wrong, each with its
// line. They hold no value of a variable and no URL. A nil getenv has no variables.
func (l Loader) Parse(name string, data []byte, getenv func(string) (string, bool)) (*Config, error) {
	if getenv == nil {
		getenv = func(string) (string, bool) { return "", false }
	}
	p := &problems{file: name, lines: map[string]int{"": 1}, expanded: map[string][]taint{}}
	root := p.document(data)
	if root == nil {
		return nil, p.err()
	}
	m := &Config{}
	m.Defaults()
	d := &decoder{problems: p, getenv: getenv, kinds: l.Kinds}
	d.decode(root, reflect.ValueOf(m).Elem(), "")
	m.defaultParts()
	m.defaultEntries()
	m.Legacy.URL = p.url("legacy", m.Legacy.URL, m.Legacy.URLFile)
	m.Target.URL = p.url("target", m.Target.URL, m.Target.URLFile)
	m.Prometheus.URL = p.url("prometheus", m.Prometheus.URL, m.Prometheus.URLFile)
	files := []*string{&m.Prometheus.TokenFile, &m.Prometheus.PasswordFile, &m.Prometheus.CAFile}
	for i := range m.Webhooks {
		w := &m.Webhooks[i]
		w.URL = p.url(index("webhooks", i), w.URL, w.URLFile)
		files = append(files, &w.SecretFile)
	}
	for i := range m.Runbook.Poolers {
		files = append(files, &m.Runbook.Poolers[i].URLFile)
	}
	for i := range m.Runbook.Caches {
		files = append(files, &m.Runbook.Caches[i].TokenFile)
	}
	for _, file := range files {
		*file = p.absolute(*file)
	}
	if len(p.found) == 0 { // what could not be read would be found missing
		(&validator{m: m, kinds: l.Kinds, schedule: l.Schedule, problems: p}).all()
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return m, nil
}

var yamlError = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

// document parses the YAML; nil if it is invalid or empty.
func (p *problems) document(data []byte) *yaml.Node {
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := in.Decode(&doc); {
	case errors.Is(err, io.EOF):
		p.add(0, "", "the migration file is empty")
		return nil
	case err != nil:
		p.syntax(data, err)
		return nil
	}
	switch err := in.Decode(&more); {
	case err == nil:
		p.add(more.Line, "", "a second document begins here; a file is for one migration")
		return nil
	case !errors.Is(err, io.EOF):
		p.syntax(data, err)
		return nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		p.add(0, "", "the migration file is empty")
		return nil
	}
	p.lines[""] = root.Line
	return root
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }

func (p *problems) syntax(data []byte, err error) {
	message, line := err.Error(), 0
	if strings.HasSuffix(message, "control characters are not allowed") {
		line = 1 + bytes.Count(data[:max(bytes.IndexFunc(data, isControl), 0)], []byte("\n"))
	}
	if match := yamlError.FindStringSubmatch(message); match != nil {
		line, _ = strconv.Atoi(match[1])
		message = message[len(match[0]):]
	}
	p.add(line, "", "invalid YAML: "+message)
}

// url returns the store's URL, from the file if one is named.
func (p *problems) url(side, url, file string) string {
	if file == "" {
		return strings.TrimSpace(url)
	}
	path := side + ".url_file"
	p.lines[side+".url"] = p.lines[path]
	if url != "" {
		p.at(path, "and %s.url are both given; leave one out", side)
		return url
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(p.file), file)
	}
	text, err := infile.Text(file)
	if err != nil {
		p.at(path, ": %v", err)
	}
	return text
}

// absolute is the absolute path of a file, which the migration file names relative to
// its own directory.
func (p *problems) absolute(file string) string {
	if file == "" || filepath.IsAbs(file) {
		return file
	}
	file = filepath.Join(filepath.Dir(p.file), file)
	if whole, err := filepath.Abs(file); err == nil {
		return whole
	}
	return file
}
