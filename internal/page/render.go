package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
)

//go:embed static templates
var files embed.FS

// version changes with any of the files that pages load: browsers keep them for ever.
var version = sync.OnceValue(func() string {
	h := sha256.New()
	err := fs.WalkDir(files, "static", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		_, _ = h.Write(text)
		return err
	})
	if err != nil {
		panic(err) // they are in the program
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
})

// static serves a file of this version, or of a former one's page.
func static(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeFileFS(w, r, files, "static/"+r.PathValue("file"))
}

// view is what a page is rendered from.
type view struct {
	Title   string
	Board   *Board // nil: nothing was read yet
	Picture *Picture
	Parts   []part
	Live    string // the stream of its fragments

	Error, Remedy string
	Explained     *explained
	Act           *act
	SignIn        bool
	After         string // where a sign-in leads
	Trouble       string // beside a form
	signedIn
}

// templates are parsed by the first page: the other commands need none.
var templates = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/*.html"))
})

var functions = template.FuncMap{
	"version": version,
	"path":    pathOf,
	"part":    func(p part) template.HTML { return template.HTML(p.HTML) }, //nolint:gosec // a template has rendered it
	"clock":   func(t time.Time) string { return t.UTC().Format(time.TimeOnly) },
	"stamp":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"count":   func(n any) string { return humanize.Count(toInt(n)) },
	"counted": func(n any, noun string) string { return humanize.Counted(toInt(n), noun) },
	"bytes":   humanize.Bytes,
	"measure": measure,
	"share":   func(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) },
	"span":    humanize.Span,
	"seconds": func(s float64) string { return humanize.Span(time.Duration(s * float64(time.Second))) },
	"short":   humanize.Short,
	"tone":    tone,
	"slug":    func(s any) string { return strings.NewReplacer(" ", "-", "/", "-").Replace(fmt.Sprint(s)) },
	"join":    strings.Join,
	"json":    func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
	"minutes": minutes,
}

func pathOf(name string, rest ...any) string {
	path := root + "/m/" + url.PathEscape(name)
	for _, one := range rest {
		path += "/" + url.PathEscape(fmt.Sprint(one))
	}
	return path
}

func toInt(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case uint64:
		return int64(n)
	}
	return 0
}

// number is a measure with four digits; a dash where there are too few samples for it.
func number(f float64) string {
	if math.Abs(f) >= 9e9 || math.IsNaN(f) || math.IsInf(f, 0) {
		return "–"
	}
	return fmt.Sprintf("%.4g", f)
}

// measure is what a gate or trigger of migrator's own measures, in its unit; another one's as it is.
func measure(of string, f float64) string {
	if number(f) == "–" {
		return "–"
	}
	switch of {
	case phases.GateConsistency, phases.GateShadowWrites, phases.GateTargetReads, phases.TriggerMismatches, phases.TriggerErrors:
		return percent(f)
	case phases.GateAddedLatency:
		return humanize.Span(time.Duration(f * float64(time.Second)))
	}
	return number(f)
}

// minutes is a time to the minute: more would change each second.
func minutes(d time.Duration) string {
	if d < time.Minute {
		return "under 1m"
	}
	return strings.TrimSuffix(humanize.Span(d.Truncate(time.Minute)), "0s")
}

// tone is the class of a verdict's or a class of rollback's color. Each has its word too.
func tone(v any) string {
	switch fmt.Sprint(v) {
	case string(phases.Pass), string(phases.Quiet), string(phases.LosslessNow), "settled", "done", "passed":
		return "good"
	case string(phases.Fail), string(phases.Firing), string(phases.Error), string(phases.Impossible), string(phases.Unknown), "failed", "lapsed":
		return "bad"
	case string(phases.Off), "overridden", "cancelled":
		return "off"
	}
	return "wait"
}

// sections are the fragments of a migration's page, in their order.
var sections = []string{"head", "acts", "gates", "triggers", "charts", "timeline", "jobs", "findings", "fleet", "journal", "runbooks", "drills", "history"}

// parts renders a picture, once for all pages that may show as much.
func (p *Page) parts(picture *Picture, keys bool) ([]part, error) {
	at := 0
	if keys {
		at = 1
	}
	r := &picture.rendered[at]
	r.once.Do(func() { r.parts, r.err = p.render(sections, shown{Picture: picture, Keys: keys, page: p}) })
	return r.parts, r.err
}

func (p *Page) listParts(b *Board) ([]part, error) {
	b.list.once.Do(func() {
		list := struct {
			Rows []shown
			Read bool // once: an empty list is no claim before
		}{Read: !b.At.IsZero()}
		for _, picture := range b.Pictures {
			list.Rows = append(list.Rows, shown{Picture: picture, page: p})
		}
		b.list.parts, b.list.err = p.render([]string{"list"}, list)
	})
	return b.list.parts, b.list.err
}

func (p *Page) render(names []string, data any) (parts []part, err error) {
	for _, name := range names {
		var text bytes.Buffer
		if err := templates().ExecuteTemplate(&text, name, data); err != nil {
			p.Log.Error("a part of the page can't be rendered", "part", name, "error", err)
			return nil, err
		}
		one, err := newPart(name, text.String())
		if err != nil {
			return nil, err
		}
		parts = append(parts, one)
	}
	return parts, nil
}

// asOf says of when the page is, if that is not now.
func (p *Page) asOf(b *Board) part {
	b.asOf.once.Do(func() { b.asOf.parts, b.asOf.err = p.render([]string{"asof"}, b) })
	if b.asOf.err != nil {
		return part{ID: "asof"}
	}
	return b.asOf.parts[0]
}

// shown is a picture with what its templates ask.
type shown struct {
	*Picture
	Keys bool // the viewer may see keys of records
	page *Page
}

// St is the migration's status.
func (s shown) St() phases.Status { return s.Status.Status }

// Now is the state database's time of the picture.
func (s shown) Now() time.Time { return s.Snapshot.Now }

// Remedy is a hint's text.
func (s shown) Remedy(h hint.Hint) string { return s.page.Remedy(s.St().Migration, h) }

// ago is how long before the picture something was.
func (s shown) Ago(t time.Time) string { return humanize.Ago(s.Now(), t) }
