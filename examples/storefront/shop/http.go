package shop

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/store"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 20

// handler is the shop's API, and the instance's metrics.
func (c *Catalogue) handler(migration string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products/{id}", c.serveGet)
	mux.HandleFunc("PUT /products/{id}", c.servePut)
	mux.HandleFunc("PATCH /products/{id}", c.servePatch)
	mux.HandleFunc("DELETE /products/{id}", c.serveDelete)
	mux.HandleFunc("POST /prices", c.serveReprice)
	mux.HandleFunc("GET /healthz", c.serveHealth)
	mux.HandleFunc("GET /stats", c.serveStats)
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewInstance(c.instance, migration))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func (c *Catalogue) serveGet(w http.ResponseWriter, r *http.Request) {
	id, ok := c.pathID(w, r)
	if !ok {
		return
	}
	p, err := c.Get(r.Context(), id)
	c.answer(w, r, http.StatusOK, p, err)
}

func (c *Catalogue) servePut(w http.ResponseWriter, r *http.Request) {
	id, ok := c.pathID(w, r)
	var p Product
	if !ok || !c.body(w, r, &p) {
		return
	}
	p.ID = id
	stored, made, err := c.Put(r.Context(), p)
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	c.answer(w, r, status, stored, err)
}

func (c *Catalogue) servePatch(w http.ResponseWriter, r *http.Request) {
	id, ok := c.pathID(w, r)
	var patch Patch
	if !ok || !c.body(w, r, &patch) {
		return
	}
	p, err := c.Patch(r.Context(), id, patch)
	c.answer(w, r, http.StatusOK, p, err)
}

func (c *Catalogue) serveDelete(w http.ResponseWriter, r *http.Request) {
	id, ok := c.pathID(w, r)
	if !ok {
		return
	}
	p, err := c.Delete(r.Context(), id)
	c.answer(w, r, http.StatusOK, p, err)
}

// Prices is what POST /prices takes.
type Prices struct {
	Prices []Reprice `json:"prices"`
}

// Products is what POST /prices answers.
type Products struct {
	Products []Product `json:"products"`
}

func (c *Catalogue) serveReprice(w http.ResponseWriter, r *http.Request) {
	var in Prices
	if !c.body(w, r, &in) {
		return
	}
	products, err := c.Reprice(r.Context(), in.Prices)
	c.answer(w, r, http.StatusOK, Products{products}, err)
}

// Health is the route that the instance follows. An instance with a lapsed lease still serves:
// it reads legacy.
type Health struct {
	Instance string `json:"instance"`
	Route    string `json:"route"`
	Epoch    int64  `json:"epoch"`
	Lapsed   bool   `json:"lapsed"`
}

func (c *Catalogue) serveHealth(w http.ResponseWriter, r *http.Request) {
	route := c.instance.Route()
	c.answer(w, r, http.StatusOK, Health{c.instance.Name(), route.String(), route.Epoch, c.instance.Lapsed()}, nil)
}

func (c *Catalogue) serveStats(w http.ResponseWriter, r *http.Request) {
	c.answer(w, r, http.StatusOK, c.instance.Stats(), nil)
}

func (c *Catalogue) pathID(w http.ResponseWriter, r *http.Request) (int64, bool) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		c.answer(w, r, 0, nil, &clientError{"the product's id must be a whole number"})
	}
	return id, err == nil
}

func (c *Catalogue) body(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err != nil {
		c.answer(w, r, 0, nil, &clientError{"the body is not what is expected here: " + err.Error()})
	}
	return err == nil
}

type clientError struct{ text string }

func (e *clientError) Error() string { return e.text }

// Problem is the body of every unsuccessful answer.
type Problem struct {
	Error string `json:"error"`
	// Written is the outcome of a failed write: "no", or "unknown" where it may have happened,
	// or may still happen.
	Written string `json:"written,omitempty"`
}

func (c *Catalogue) answer(w http.ResponseWriter, r *http.Request, status int, value any, err error) {
	if err != nil {
		status, value = problem(err)
	}
	if status >= 500 {
		c.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", status, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // an error means that the client has disconnected
}

// problem maps an error to an answer. The dual package's errors show whether it is useful to
// retry a failed write.
func problem(err error) (int, Problem) {
	var client *clientError
	var waited *dual.WaitError
	var refused *dual.TargetError
	p := Problem{Error: err.Error(), Written: "unknown"}
	switch {
	case errors.As(err, &refused): // first: it may wrap one of the others
		if refused.Legacy { // committed; the target receives it with the repair
			p.Error = "the write is saved, but not everywhere yet"
		}
		return http.StatusServiceUnavailable, p
	case errors.As(err, &client), errors.Is(err, ErrInvalid):
		p.Written = "no"
		return http.StatusBadRequest, p
	case errors.Is(err, ErrNotFound):
		p.Written = "no"
		return http.StatusNotFound, p
	case errors.As(err, &waited), errors.Is(err, dual.ErrLeft), errors.Is(err, store.ErrFenced):
		p.Written = "no"
		return http.StatusServiceUnavailable, p
	default:
		return http.StatusInternalServerError, p
	}
}
