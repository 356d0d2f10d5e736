package server

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

const (
	flagsBody   = 64 << 10 // bytes of a request
	mostStreams = 1024
	// Inactivity is what event streams advertise; a heartbeat comes in a fraction of it. A longer one would
	// make a client that closes silent connections reconnect for ever.
	Inactivity = 2 * time.Minute
	heartbeat  = Inactivity / 8
)

// Flags serves the OpenFeature Remote Evaluation Protocol 0.3.0 below /ofrep/v1 for all migrations that a caller's token may
// see. Answers come from the Directory's copy of the routes, not from the state database.
//
// The token is checked first: a request without one costs two hashes, and is limited.
type Flags struct {
	*Directory

	Origins   []string      // of pages that browsers may call from, such as https://shop.example
	Rate      int           // requests of one token in a second; 0: 200
	Heartbeat time.Duration // 0: an eighth of what is advertised

	guard *guard
}

// Paths of the protocol.
const (
	evaluatePath = "/ofrep/v1/evaluate/flags"
	eventsPath   = "/ofrep/v1/events"
)

// Register adds the protocol's paths.
func (f *Flags) Register(mux *http.ServeMux) {
	f.Heartbeat = cmp.Or(f.Heartbeat, heartbeat)
	f.guard = newGuard(&guard{
		Directory: f.Directory, origins: f.Origins, setting: "flags_origins", rate: cmp.Or(f.Rate, 200),
		fail: func(w http.ResponseWriter, status int, _, details string) { fail(w, status, details) },
	})
	mux.Handle("POST "+evaluatePath, f.guarded(f.bulk))
	mux.Handle("POST "+evaluatePath+"/{key}", f.guarded(f.single))
	mux.HandleFunc("GET "+eventsPath, f.events)
	for _, path := range []string{evaluatePath, evaluatePath + "/{key}", eventsPath} {
		mux.HandleFunc("OPTIONS "+path, f.preflight)
	}
}

// guarded serves callers that the guard admits.
func (f *Flags) guarded(serve func(*call)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			token = r.Header.Get("X-API-Key")
		}
		if c, ok := f.guard.admit(w, r, token); ok {
			r.Body = http.MaxBytesReader(w, r.Body, flagsBody)
			serve(c)
		}
	})
}

func (f *Flags) preflight(w http.ResponseWriter, r *http.Request) {
	if f.guard.originAllowed(w, r) {
		w.Header().Set("Access-Control-Allow-Methods", "POST, GET")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, X-API-Key, Content-Type, If-None-Match, Last-Event-ID")
		w.Header().Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	}
}

// fail answers with what every failure has. details are for a person.
func fail(w http.ResponseWriter, status int, details string) {
	answer(w, status, map[string]string{"errorCode": "GENERAL", "errorDetails": details})
}

func answer(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(document) // the caller has left
}
