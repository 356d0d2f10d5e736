package runbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/migration"
)

// maxSource bounds the size of a runbook: each of its runs stores a copy.
const maxSource = 1 << 20

// Load reads a runbook from a file. See Parse.
func Load(path string, values map[string]string) (*Runbook, error) {
	source, err := infile.Read(path, maxSource)
	if err != nil {
		return nil, fmt.Errorf("the runbook: %w", err)
	}
	return Parse(path, source, values)
}

// Parse parses a runbook and checks everything that needs no server and no program. After the
// front matter it replaces ${name} by a value of the migration's (see Values) or of the front
// matter; $${ stands for ${ itself. A value must be a plain word, since it becomes part of
// commands and statements.
//
// The error is a migration.Errors: everything that is wrong, each with its line.
func Parse(name string, source []byte, values map[string]string) (*Runbook, error) {
	return parse(name, source, values, false)
}

// Reread parses the Source of a parsed runbook: its values are filled in.
func Reread(name, source string) (*Runbook, error) { return parse(name, []byte(source), nil, true) }

func parse(name string, source []byte, values map[string]string, filled bool) (*Runbook, error) {
	p := &parser{r: &Runbook{File: name, named: map[string]*Step{}}}
	if !bytes.HasPrefix(source, []byte("---")) {
		p.add(1, "a runbook begins with its front matter: a line --- , then name and title in YAML, then --- again")
		return nil, p.err()
	}
	source = bytes.ReplaceAll(source, []byte("\r\n"), []byte("\n"))
	body, ok := p.front(source)
	if !ok {
		return nil, p.err()
	}
	all := map[string]string{}
	for k, v := range values {
		all[k] = v
	}
	for k, v := range p.r.Values {
		if _, taken := values[k]; taken {
			p.add(1, "the front matter's value %q is the migration's own; give it another name", k)
		}
		all[k] = v
	}
	lines, document := bytes.Count(source[:body], []byte("\n")), string(source[body:])
	if !filled {
		document = p.fill(document, 1+lines, all)
	}
	p.r.Source = string(source[:body]) + document
	// Blank lines in place of the front matter preserve line numbers.
	p.blocks(append(bytes.Repeat([]byte("\n"), lines), document...))
	p.check()
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.r, nil
}

type parser struct {
	r     *Runbook
	found migration.Errors
}

func (p *parser) add(line int, format string, args ...any) {
	p.found = append(p.found, &migration.Error{File: p.r.File, Line: line, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) err() error {
	if len(p.found) == 0 {
		return nil
	}
	slices.SortStableFunc(p.found, func(a, b *migration.Error) int { return a.Line - b.Line })
	return p.found
}

var (
	frontEnd     = regexp.MustCompile(`(?m)^---[ \t]*$`)
	unknownKey   = regexp.MustCompile(`field (.*) not found in type runbook\.\w+`)
	yamlLine     = regexp.MustCompile(`line ([0-9]+): `)
	nameOfBook   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	nameOfValue  = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,62}$`)
	nameOfEnv    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	plainWord    = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]*$`)
	ofMigrations = []string{"legacy", "target", "state"}
)

// front parses the front matter and returns where the document begins.
func (p *parser) front(source []byte) (body int, ok bool) {
	marks := frontEnd.FindAllIndex(source, 2)
	if len(marks) < 2 || marks[0][0] != 0 {
		p.add(1, "the front matter has no end: a line --- behind it")
		return 0, false
	}
	d := yaml.NewDecoder(bytes.NewReader(source[marks[0][1]:marks[1][0]]))
	d.KnownFields(true)
	err := d.Decode(&p.r.Front)
	if err != nil && !errors.Is(err, io.EOF) {
		// The part that the YAML parser sees begins on the first line, which is ---.
		for line := range strings.Lines(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n")) {
			at := 1
			line = strings.TrimSpace(line)
			if m := yamlLine.FindStringSubmatch(line); m != nil {
				at, _ = strconv.Atoi(m[1])
				line = strings.Replace(line, m[0], "", 1)
			}
			p.add(at, "front matter: %s", unknownKey.ReplaceAllString(line, `unknown key "$1" (the schema of runbooks lists them)`))
		}
		return 0, false
	}
	f := p.r.Front
	switch {
	case f.Name == "":
		p.add(1, "the front matter has no name, such as name: rollback")
	case !nameOfBook.MatchString(f.Name):
		p.add(1, "name: %q: want lower-case letters, digits and -, a letter first", f.Name)
	}
	if f.Title == "" {
		p.add(1, "the front matter has no title")
	}
	for name, c := range f.Connections {
		switch {
		case slices.Contains(ofMigrations, name):
			p.add(1, "connections.%s: the migration has one of that name", name)
		case !nameOfBook.MatchString(name):
			p.add(1, "connections: %q: want lower-case letters, digits and -, a letter first", name)
		case (c.Env == "") == (c.URLFile == ""):
			p.add(1, "connections.%s: want env, the variable that holds the URL, or url_file, the file", name)
		case c.Env != "" && !nameOfEnv.MatchString(c.Env):
			p.add(1, "connections.%s.env: %q is no variable's name; a runbook must not contain a URL", name, c.Env)
		}
	}
	for name := range f.Values {
		if !nameOfValue.MatchString(name) {
			p.add(1, "values: %q: want lower-case letters, digits, _ and dots, a letter first", name)
		}
	}
	return marks[1][1], true
}

// fill replaces ${name} by the values.
func (p *parser) fill(text string, line int, values map[string]string) string {
	known := make([]string, 0, len(values))
	for k := range values {
		known = append(known, k)
	}
	slices.Sort(known)
	var b strings.Builder
	for {
		at := strings.Index(text, "${")
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		line += strings.Count(text[:at], "\n")
		if at > 0 && text[at-1] == '$' {
			b.WriteString(text[:at-1] + "${")
			text = text[at+2:]
			continue
		}
		b.WriteString(text[:at])
		inside, rest, ok := strings.Cut(text[at+2:], "}")
		value, there := values[inside]
		switch {
		case !ok || strings.Contains(inside, "\n"):
			p.add(line, "${ without }; write $${ for the characters themselves")
			rest = text[at+2:]
		case !there:
			p.add(line, "there is no value ${%s}; there are %s; write $${%s} for a variable of the shell", inside, strings.Join(known, ", "), inside)
		case !plainWord.MatchString(value):
			p.add(line, "${%s} is %q here, which is no plain word and could change the command around it; write it out instead", inside, value)
		default:
			b.WriteString(value)
		}
		text = rest
	}
}

// blocks collects the steps.
func (p *parser) blocks(source []byte) {
	title := ""
	lineOf := func(offset int) int { return 1 + bytes.Count(source[:offset], []byte("\n")) }
	doc := goldmark.New().Parser().Parse(text.NewReader(source))
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			title = ""
			for i := range n.Lines().Len() {
				seg := n.Lines().At(i)
				title += string(seg.Value(source))
			}
			title = strings.TrimSpace(title)
		case *ast.FencedCodeBlock:
			if n.Info == nil {
				break
			}
			line := lineOf(n.Info.Segment.Start)
			s, err := info(string(n.Info.Segment.Value(source)))
			if err != nil {
				p.add(line, "%v", err)
				break
			}
			if s == nil {
				break
			}
			s.Line, s.Title = line, title
			var body strings.Builder
			for i := range n.Lines().Len() {
				seg := n.Lines().At(i)
				body.Write(seg.Value(source))
			}
			s.Body = strings.TrimRight(body.String(), " \t\n")
			p.step(s)
		}
		return ast.WalkContinue, nil
	})
}

func (p *parser) step(s *Step) {
	if other := p.r.named[s.ID]; other != nil {
		p.add(s.Line, "the id %s is used twice, first on line %d", s.ID, other.Line)
		return
	}
	p.r.named[s.ID] = s
	p.r.Steps = append(p.r.Steps, s)
}
