package page

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// Paths of the page.
const (
	root      = "/page"
	paths     = root + "/m/{migration}"
	signPath  = root + "/session"
	doPath    = paths + "/do/{verb}"
	staticURL = root + "/static/"
)

// policy is the Content-Security-Policy of each answer: the page loads nothing from elsewhere, runs no script and
// applies no style that is in its HTML, and is in no other page's frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Register adds the page's paths.
func (p *Page) Register(mux *http.ServeMux) {
	p.prepare()
	get := func(path string, serve http.HandlerFunc) { mux.Handle("GET "+path, guarded(serve)) }
	get("/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, root, http.StatusSeeOther) })
	get(root, p.showList)
	get(paths, p.showMigration)
	get(paths+"/explain/{kind}/{name}", p.showExplained)
	get(doPath, p.showQuestion)
	get(doPath+"/{id}", p.outcome)
	get(signPath, p.showSignIn)
	mux.Handle("POST "+doPath, guarded(p.checked(p.confirmed)))
	mux.Handle("POST "+signPath, guarded(p.ownPages(p.signIn)))
	mux.Handle("POST "+signPath+"/end", guarded(p.checked(p.signOut)))
	get(root+"/events", p.events)
	get(staticURL+"{version}/{file}", static)
}

// guarded sets the headers that all answers have, and refuses a request that another site's page has made.
func guarded(next http.HandlerFunc) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next(w, r)
	}))
}

func (p *Page) showList(w http.ResponseWriter, r *http.Request) {
	b := p.present.Load()
	if b == nil {
		p.fail(w, r, http.StatusServiceUnavailable, errNotRead)
		return
	}
	parts, err := p.listParts(b)
	p.show(w, r, http.StatusOK, view{Title: "Migrations", Board: b, Parts: parts, Live: root + "/events"}, err)
}

func (p *Page) showMigration(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("migration")
	b, picture, err := p.full(r.Context(), name)
	if !p.found(w, r, picture, err) {
		return
	}
	parts, err := p.parts(picture, p.mayRead(r, name))
	p.show(w, r, http.StatusOK, view{Title: name, Board: b, Picture: picture, Parts: parts, Live: root + "/events?migration=" + url.QueryEscape(name)}, err)
}

// found answers if there is no picture.
func (p *Page) found(w http.ResponseWriter, r *http.Request, picture *Picture, err error) bool {
	switch {
	case errors.Is(err, statedb.ErrUnknownMigration), err == nil && picture == nil:
		p.fail(w, r, http.StatusNotFound, errors.New("the state database has no such migration"))
	case errors.Is(err, errNotRead):
		p.fail(w, r, http.StatusServiceUnavailable, err)
	case err != nil:
		// The database's error names hosts and roles.
		p.Log.Warn("the page can't read the state", "path", r.URL.Path, "error", err, hint.Attr(err))
		p.fail(w, r, http.StatusServiceUnavailable, errNotRead)
	default:
		return true
	}
	return false
}

// fail shows an error with its remedy.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	v := view{Title: http.StatusText(status), Board: p.present.Load(), Error: err.Error()}
	if h, ok := hint.Of(err); ok {
		v.Remedy = p.Remedy(r.PathValue("migration"), h)
	}
	p.show(w, r, status, v, nil)
}

// show renders a page whole before it sends any of it.
func (p *Page) show(w http.ResponseWriter, r *http.Request, status int, v view, err error) {
	var body bytes.Buffer
	if err == nil {
		p.session(r, &v)
		name := "page"
		if r.Header.Get("X-Fragment") != "" { // what a dialog shows
			name = "content"
		}
		err = templates().ExecuteTemplate(&body, name, v)
	}
	if err != nil {
		p.Log.Error("a page can't be rendered", "path", r.URL.Path, "error", err)
		http.Error(w, "the page can't be rendered; this process's log has the error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the caller has left
}

// events is a stream of the fragments that have changed: all of them first, since a page may be older than its stream.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("migration")
	if b := p.present.Load(); b != nil && name != "" && b.Named(name) == nil {
		w.WriteHeader(http.StatusNoContent) // an EventSource stops at it
		return
	}
	if !p.look(name) {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many pages are open on this process", http.StatusTooManyRequests)
		return
	}
	defer p.leave(name)
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect events
	send := func(text []byte) bool {
		// A client that does not read must not keep the stream for ever.
		_ = out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err := w.Write(text)
		return err == nil && out.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	sent := map[string]string{}
	for {
		changed := p.next() // before what is there is read: no change falls between
		if text := p.news(r, name, sent); len(text) > 0 && !send(text) {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			if !send([]byte(":\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		case <-p.over:
			return
		}
	}
}

// news are the events of what differs from what was sent.
func (p *Page) news(r *http.Request, name string, sent map[string]string) []byte {
	b := p.present.Load()
	if b == nil {
		return nil
	}
	parts, err := p.listParts(b)
	if name != "" {
		picture := b.Named(name)
		if picture == nil || !picture.watched {
			return nil
		}
		parts, err = p.parts(picture, p.mayRead(r, name))
	}
	if err != nil {
		return nil // it was logged
	}
	var events bytes.Buffer
	for _, one := range append([]part{p.asOf(b)}, parts...) {
		if sent[one.ID] == one.HTML {
			continue
		}
		sent[one.ID] = one.HTML
		events.Write(one.event)
	}
	if down := map[bool]string{true: "down", false: "up"}[b.Down != ""]; sent["state"] != down {
		sent["state"] = down
		events.WriteString("event: state\ndata: " + down + "\n\n")
	}
	return events.Bytes()
}
