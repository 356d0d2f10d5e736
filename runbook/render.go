package runbook

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

//go:embed templates/*.md
var templates embed.FS

// Rendered are the runbooks that are written from a description.
var Rendered = []string{"rollback", "cutover"}

// Facts are what a rendered runbook tells besides the description.
type Facts struct {
	ConfigHash string   // that is applied; "" leaves the runbook unbound
	Deciders   []string // the members of the deciding role
	TTLs       []TTL
	TTLErrors  []string // of names that could not be looked up
}

// page is what a template is given.
type page struct {
	*migration.Config
	Facts
	Places []place
	Steps  []ramp
}

// place is a region, in the order in which regions are worked on.
type place struct {
	Region   string
	Poolers  []migration.Pooler
	Services []migration.Service
}

// ramp is a percentage of cutover.
type ramp struct {
	Percent    phases.Percent
	Hundredths int
	First      bool
	Wait       phases.Duration // for as long as the gates may hold it
}

// Render writes one of Rendered for a migration: its exact commands, with nothing left
// to be filled in.
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
		// A gate holds a step for as long as it lasts; the time besides is for people.
		wait := 2*m.Phases.Cutover.PerStep() + 24*time.Hour
		p.Steps = append(p.Steps, ramp{Percent: percent, Hundredths: int(percent), First: i == 0, Wait: phases.Duration(wait)})
	}
	t, err := template.New(name+".md").Funcs(template.FuncMap{
		"join":   func(list []string) string { return strings.Join(list, ", ") },
		"sql":    func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" },
		"yaml":   func(s string) string { return fmt.Sprintf("%q", s) },
		"lines":  func(list []string) string { return strings.Join(list, "\n") },
		"needs":  contains,
		"number": func(f *float64) string { return fmt.Sprintf("%g", *f) },
		"slug":   func(p phases.Percent) string { return strings.ReplaceAll(p.String(), ".", "-") },
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

func contains(list []phases.Phase, p string) bool {
	for _, one := range list {
		if string(one) == p {
			return true
		}
	}
	return false
}

// tidy leaves no more than one blank line between two paragraphs, outside of code.
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
