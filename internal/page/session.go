package page

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
)

const (
	idleEnd      = 30 * time.Minute // of a session that is not used
	surelyEnds   = 12 * time.Hour
	mostSessions = 1000
	// reviewEvery is how often the tokens of sessions are looked up.
	reviewEvery = 5 * time.Second
)

// session is what a cookie stands for. The token is in this process's memory alone.
type session struct {
	token  string
	bearer state.Bearer
	csrf   string
	began  time.Time
	used   time.Time
}

// sessions are by the hash of their cookie.
type sessions struct {
	mu       sync.Mutex
	all      map[[sha256.Size]byte]*session
	tries    *rate.Limiter // of tokens
	reviewed time.Time
}

// signedIn is what a page shows of its session.
type signedIn struct {
	Role  string
	Token int64
	CSRF  string
	May   bool   // the migration that is shown
	Next  string // where a sign-in leads
}

func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// cookieName has the prefix that binds a cookie to TLS and this host, where there is TLS.
func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-migrator"
	}
	return "migrator-page"
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where there is TLS: else on loopback alone
		Name: cookieName(r), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
}

// of returns the request's session; nil: it has none that is valid. watching: a stream asks, which is no use of it.
func (s *sessions) of(r *http.Request, watching bool) *session {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return nil
	}
	key, now := sha256.Sum256([]byte(cookie.Value)), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	if one == nil {
		return nil
	}
	if now.Sub(one.used) > idleEnd || now.Sub(one.began) > surelyEnds {
		delete(s.all, key)
		return nil
	}
	if !watching {
		one.used = now
	}
	copied := *one
	return &copied
}

func (s *sessions) add(one session) (cookie string) {
	cookie = secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]*session{}
	}
	for len(s.all) >= mostSessions { // the one that was used least lately gives way
		var oldest [sha256.Size]byte
		var at time.Time
		for key, other := range s.all {
			if at.IsZero() || other.used.Before(at) {
				oldest, at = key, other.used
			}
		}
		delete(s.all, oldest)
	}
	s.all[sha256.Sum256([]byte(cookie))] = &one
	return cookie
}

func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(cookieName(r)); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, sha256.Sum256([]byte(cookie.Value)))
	}
}

// review ends the sessions whose tokens are valid no more, and notes what the others may see.
func (p *Page) review(ctx context.Context) {
	s := &p.sessions
	s.mu.Lock()
	due := len(s.all) > 0 && time.Since(s.reviewed) >= reviewEvery
	s.mu.Unlock()
	if !due {
		return
	}
	_, bearers, err := p.State.Publication(ctx)
	if err != nil {
		return // each act asks the state again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reviewed = time.Now()
	for key, one := range s.all {
		bearer, valid := bearers[state.TokenHash(one.token)]
		if !valid {
			delete(s.all, key)
			continue
		}
		one.bearer = bearer
	}
}

// mayRead reports whether the request's session may see the migration's keys.
func (p *Page) mayRead(r *http.Request, name string) bool {
	one := p.sessions.of(r, true)
	return one != nil && one.bearer.Migrations[name]
}

// session adds the request's session to a view.
func (p *Page) session(r *http.Request, v *view) {
	v.Next = r.URL.Path
	if one := p.sessions.of(r, false); one != nil {
		v.Role, v.Token, v.CSRF = one.bearer.Role, one.bearer.ID, one.csrf
		v.May = v.Picture != nil && one.bearer.Migrations[v.Picture.Status.Status.Migration]
	}
}

// checked guards a request that changes something: it must come from a page of this server, in a session, with the
// session's own secret.
func (p *Page) checked(next func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return p.ownPages(func(w http.ResponseWriter, r *http.Request) {
		one := p.sessions.of(r, false)
		switch {
		case one == nil:
			p.fail(w, r, http.StatusUnauthorized, errSignIn)
		case subtle.ConstantTimeCompare([]byte(r.PostFormValue("csrf")), []byte(one.csrf)) != 1:
			p.fail(w, r, http.StatusForbidden, errors.New("the form is of another session; nothing was changed: load the page again"))
		default:
			next(w, r, one)
		}
	})
}

var errSignIn = errors.New("you are not signed in, or the session has ended; nothing was changed")

// ownPages refuses a form of which the browser does not say where it is from: all that have EventSource do. What comes from
// elsewhere was refused before.
func (p *Page) ownPages(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
			p.fail(w, r, http.StatusForbidden, errors.New("the request does not say which page it is from; nothing was changed"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
		next(w, r)
	}
}

func (p *Page) showSignIn(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, http.StatusOK, view{Title: "Sign in", Board: p.present.Load(), SignIn: true, After: ownPath(r.URL.Query().Get("next"))}, nil)
}

// ownPath is a path of the page; the list, if the given one is none.
func ownPath(path string) string {
	if path != root && !strings.HasPrefix(path, root+"/m/") || strings.ContainsAny(path, "\\\r\n") {
		return root
	}
	return path
}

// signIn takes a token, and gives a session for it.
func (p *Page) signIn(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, err error) {
		v := view{Title: "Sign in", Board: p.present.Load(), SignIn: true, After: ownPath(r.PostFormValue("next")), Trouble: err.Error()}
		if h, ok := hint.Of(err); ok {
			v.Remedy = p.Remedy("", h)
		}
		p.show(w, r, status, v, nil)
	}
	if !p.sessions.tries.Allow() {
		refuse(http.StatusTooManyRequests, errors.New("too many tokens were tried on this process: wait a minute"))
		return
	}
	token := strings.TrimSpace(r.PostFormValue("token"))
	ctx, cancel := context.WithTimeout(r.Context(), refreshWithin)
	defer cancel()
	_, bearers, err := p.State.Publication(ctx)
	if err != nil {
		p.Log.Warn("tokens can't be looked up", "error", err, hint.Attr(err))
		text := "tokens can't be looked up in the state database; this process's log has the error"
		if statedb.Away(err) || ctx.Err() != nil {
			text = "the state database does not answer: a token can't be looked up"
		}
		h, _ := hint.Of(err)
		refuse(http.StatusServiceUnavailable, hint.With(errors.New(text), h))
		return
	}
	bearer, known := bearers[state.TokenHash(token)]
	if !known {
		refuse(http.StatusForbidden, errors.New("the token is unknown, has expired or was revoked: migrator token create makes one"))
		return
	}
	p.sessions.end(r)
	now := time.Now()
	setCookie(w, r, p.sessions.add(session{token: token, bearer: bearer, csrf: secret(), began: now, used: now}), int(surelyEnds/time.Second))
	p.Log.Info("signed in to the page", "role", bearer.Role, "token", bearer.ID)
	http.Redirect(w, r, ownPath(r.PostFormValue("next")), http.StatusSeeOther)
}

func (p *Page) signOut(w http.ResponseWriter, r *http.Request, _ *session) {
	p.sessions.end(r)
	setCookie(w, r, "", -1)
	http.Redirect(w, r, root, http.StatusSeeOther)
}
