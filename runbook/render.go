package runbook

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

//go:embed templates/*.md
var templates embed.FS

// Rendered are the runbooks that are rendered from a migration file.
var Rendered = []string{"rollback", "cutover"}

// Facts are what a rendered runbook needs besides the migration file.
type Facts struct {
	ConfigHash string   // the applied one; "" leaves the runbook unbound
	Deciders   []string // the members of the deciding role
	TTLs       []TTL
	TTLErrors  []string // of names whose lookup failed
}

// page is a template's input.
type page struct {
	*migration.Config
	Facts
	Places []place
	Steps  []ramp
}

// place is one region; the list is in the order in which regions are processed.
type place struct {
	Region   string
	Poolers  []migration.Pooler
	Services []migration.Service
}

// ramp is one percentage of the cutover.
type ramp struct {
	Percent    phases.Percent
	Hundredths int
	First      bool
	Wait       phases.Duration // as long as the gates may block it
}

// Render renders one of Rendered for a migration: exact commands, with nothing left to fill
// in.
func Render(name string, m *migration.Config, f Facts) ([]byte, error) {
	own := *m
	if m = &own; m.Runbook.DNS.MaxTTL == 0 {
		m.Runbook.DNS.MaxTTL = phases.Duration(time.Minute)
	}
	p := page{Config: m, Facts: f}
	for _, region := range append([]string{""}, m.Runbook.Regions...) {
		at := place{Region: region}
		for _, x := range m.Runbook.Poolers {
			if x.Region == region {
				at.Poolers = append(at.Poolers, x)
			}
		}
		for _, x := range m.Runbook.Services {
			if x.Region == region && (x.Drain != "" || x.Health != "") {
				at.Services = append(at.Services, x)
			}
		}
		if len(at.Poolers)+len(at.Services) > 0 {
			p.Places = append(p.Places, at)
		}
	}
	for i, percent := range m.Phases.Cutover.Steps {
		// A gate blocks a step for as long as its soak time; the rest is time for people.
		wait := 2*m.Phases.Cutover.PerStep() + 24*time.Hour
		p.Steps = append(p.Steps, ramp{Percent: percent, Hundredths: int(percent), First: i == 0, Wait: phases.Duration(wait)})
	}
	t, err := template.New(name+".md").Funcs(template.FuncMap{
		"sql":    func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" },
		"yaml":   func(s string) string { return fmt.Sprintf("%q", s) },
		"lines":  func(list []string) string { return strings.Join(list, "\n") },
		"needs":  contains,
		"number": func(f *float64) string { return fmt.Sprintf("%g", *f) },
		"slug":   func(p phases.Percent) string { return strings.ReplaceAll(p.String(), ".", "-") },
		"prose":  func(s fmt.Stringer) string { return prose(s.String()) },
		"words":  prose,
		"names":  func(list []string) string { return prose(strings.Join(list, ", ")) },
		"escape": func(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "${", "$${") },
	}).ParseFS(templates, "templates/*.md")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, name+".md", p); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return tidy(out.Bytes()), nil
}

// prose escapes words of others for a paragraph: they begin no step and name no value.
func prose(s string) string { return strings.ReplaceAll(oneline.Markdown(s), "${", "$${") }

func contains(list []phases.Phase, p string) bool {
	for _, one := range list {
		if string(one) == p {
			return true
		}
	}
	return false
}

// tidy leaves at most one blank line between paragraphs, outside code.
func tidy(text []byte) []byte {
	var out bytes.Buffer
	blank, code := false, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \t\n")
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if line == "" && blank && !code {
			continue
		}
		blank = line == ""
		out.WriteString(line + "\n")
	}
	return append(bytes.TrimRight(out.Bytes(), "\n"), '\n')
}
