package server

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// guard admits the callers of one protocol: it checks the token, the page and the rate, in this order, before a body is
// read. A cookie is never looked at: a page of another site can't make a browser send a credential.
type guard struct {
	*Directory

	origins []string // of pages that browsers may call from
	setting string   // that has them; "": none
	rate    int      // requests of one token in a second
	// fail answers a refusal in the protocol's form. code is a stable name of its reason.
	fail func(w http.ResponseWriter, status int, code, details string)

	limits  sync.Map // *rate.Limiter by the ID of a token
	unknown *rate.Limiter
}

// Codes of refusals before a request is looked at.
const (
	codeNotReady    = "not-ready"
	codeBadToken    = "bad-token"
	codeBadOrigin   = "origin-not-allowed"
	codeTooMany     = "too-many-requests"
	unknownRate     = 20 // requests in a second without a valid token
	unknownBurst    = 50
	tokenRefused    = "the token is missing, unknown, expired or revoked: migrator token create makes one"
	originRefused   = "pages of this origin may not call"
	routesNotLoaded = "the routes and tokens were not read yet; this process's log may have the error"
)

func newGuard(g *guard) *guard {
	g.prepare()
	g.unknown = rate.NewLimiter(unknownRate, unknownBurst)
	return g
}

// call is a request whose token is valid.
type call struct {
	w http.ResponseWriter
	r *http.Request

	from    Bearer
	hash    [sha256.Size]byte
	present *publication
}

// admit answers a request that it does not admit.
func (g *guard) admit(w http.ResponseWriter, r *http.Request, token string) (*call, bool) {
	w.Header().Set("Cache-Control", "no-store")
	given := sha256.Sum256([]byte(token))
	hash := sha256.Sum256(given[:])
	p := g.present.Load()
	if p == nil {
		g.fail(w, http.StatusInternalServerError, codeNotReady, routesNotLoaded)
		return nil, false
	}
	from, known := p.Bearers[hash]
	if !known || !time.Now().Before(from.Until) {
		g.refuseToken(w, r)
		return nil, false
	}
	c := &call{w, r, from, hash, p}
	return c, g.originAllowed(w, r) && g.mayGo(c)
}

func (g *guard) refuseToken(w http.ResponseWriter, r *http.Request) {
	g.allowOrigin(w, r) // a page may read why
	if !g.unknown.Allow() {
		g.tooMany(w, "requests without a valid token", time.Second)
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	g.fail(w, http.StatusUnauthorized, codeBadToken, tokenRefused)
}

// allowOrigin lets a page read the answer, if it is one of those that may.
func (g *guard) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	w.Header().Add("Vary", "Origin")
	if origin == "" {
		return true
	}
	if !slices.Contains(g.origins, origin) {
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers", "ETag, Retry-After")
	return true
}

func (g *guard) originAllowed(w http.ResponseWriter, r *http.Request) bool {
	if !g.allowOrigin(w, r) {
		see := ""
		if g.setting != "" {
			see = ": see the setting " + g.setting
		}
		g.fail(w, http.StatusForbidden, codeBadOrigin, originRefused+see)
		return false
	}
	return true
}

// mayGo limits the requests of one token.
func (g *guard) mayGo(c *call) bool {
	any, _ := g.limits.LoadOrStore(c.from.ID, rate.NewLimiter(rate.Limit(g.rate), 2*g.rate)) // only tokens that are valid come here
	reserved := any.(*rate.Limiter).Reserve()
	if wait := reserved.Delay(); wait > 0 {
		reserved.Cancel()
		g.tooMany(c.w, "requests of this token", wait)
		return false
	}
	return true
}

func (g *guard) tooMany(w http.ResponseWriter, what string, wait time.Duration) {
	seconds := int(wait/time.Second) + 1
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	g.fail(w, http.StatusTooManyRequests, codeTooMany, fmt.Sprintf("too many %s: again in %d s", what, seconds))
}
