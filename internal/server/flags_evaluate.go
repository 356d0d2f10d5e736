package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/phases"
)

// evaluation is the answer for one flag, of either outcome.
type evaluation struct {
	Key          string         `json:"key"`
	Value        any            `json:"value,omitempty"` // absent: the caller's default counts
	Reason       string         `json:"reason,omitempty"`
	Variant      string         `json:"variant,omitempty"`
	ErrorCode    string         `json:"errorCode,omitempty"`
	ErrorDetails string         `json:"errorDetails,omitempty"`
	Metadata     map[string]any `json:"metadata,omitempty"`
}

// evaluationContext is what of a context counts: the key of the record.
type evaluationContext struct {
	key string
	has bool
}

// readContext answers a context that can't be used.
func (c *call) readContext(key string) (e evaluationContext, ok bool) {
	refuse := func(code, details string) (evaluationContext, bool) {
		answer(c.w, http.StatusBadRequest, evaluation{Key: key, ErrorCode: code, ErrorDetails: details})
		return evaluationContext{}, false
	}
	body, err := io.ReadAll(c.r.Body)
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		answer(c.w, http.StatusRequestEntityTooLarge, evaluation{Key: key, ErrorCode: "INVALID_CONTEXT", ErrorDetails: fmt.Sprintf("longer than %d bytes", flagsBody)})
		return e, false
	}
	if err != nil {
		return refuse("PARSE_ERROR", "the body could not be read")
	}
	if !json.Valid(body) {
		return refuse("PARSE_ERROR", "the body is not JSON")
	}
	var request struct {
		Context map[string]json.RawMessage `json:"context"`
	}
	if json.Unmarshal(body, &request) != nil || request.Context == nil {
		return refuse("INVALID_CONTEXT", "want an object with an object context")
	}
	if raw, given := request.Context["targetingKey"]; given {
		if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, &e.key) != nil {
			return refuse("INVALID_CONTEXT", "targetingKey is not a text")
		}
		e.has = true
	}
	return e, true
}

// visible are the routes that the caller may see, by name.
func (c *call) visible() []PublishedRoute {
	var all []PublishedRoute
	for _, r := range c.present.Routes {
		if c.from.Migrations[r.Migration] {
			all = append(all, r)
		}
	}
	return all
}

// flagKinds are the flags of a migration, in the order of a bulk answer.
var flagKinds = []string{"phase", "read", "routing", "sampled"}

func flagKey(migration, kind string) string { return "migrator." + migration + "." + kind }

// evaluate is the answer for a flag, of a context. It takes no lock and reads no clock but for the answer's age.
func (c *call) evaluate(r PublishedRoute, kind string, of evaluationContext) evaluation {
	e := evaluation{Key: flagKey(r.Migration, kind), Reason: "STATIC", Metadata: map[string]any{"epoch": r.Route.Epoch}}
	if c.present.staleness() != "fresh" {
		e.Metadata["stale"], e.Metadata["ageSeconds"] = true, int(c.present.age()/time.Second)
	}
	if !of.has && (kind == "read" || kind == "sampled") {
		return evaluation{Key: e.Key, ErrorCode: "TARGETING_KEY_MISSING", ErrorDetails: "targetingKey is the key of the record", Metadata: e.Metadata}
	}
	b := r.Route.Behaviour()
	hash := xxhash.Sum64String(of.key) // as dual's Reader
	switch kind {
	case "phase":
		e.Value, e.Variant = string(r.Route.Phase), string(r.Route.Phase)
	case "read":
		value := "legacy"
		if b.Reads == phases.ReadsTarget || b.Reads == phases.ReadsSplit && r.Route.Percent.Takes(hash) {
			value = "target"
		}
		if b.Reads == phases.ReadsSplit {
			e.Reason = "SPLIT"
		}
		e.Value, e.Variant = value, value
	case "sampled":
		share, set := r.Route.CompareShare()
		if !set { // each application has a share of its own: the caller's default
			e.Reason = "UNKNOWN"
			break
		}
		if share > 0 && share < phases.All {
			e.Reason = "SPLIT"
		}
		e.Value = share.Takes(hash)
	case "routing":
		e.Value = r.Route.Routing(r.Lease)
	}
	return e
}

func (f *Flags) single(c *call) {
	key := c.r.PathValue("key")
	of, ok := c.readContext(key)
	if !ok || !f.servable(c, key) {
		return
	}
	for _, r := range c.visible() {
		for _, kind := range flagKinds {
			if key != flagKey(r.Migration, kind) {
				continue
			}
			e := c.evaluate(r, kind, of)
			status := http.StatusOK
			if e.ErrorCode != "" {
				status = http.StatusBadRequest
			}
			answer(c.w, status, e)
			return
		}
	}
	// A migration that the caller may not see is not there.
	answer(c.w, http.StatusNotFound, evaluation{Key: key, ErrorCode: "FLAG_NOT_FOUND", ErrorDetails: "there is no such flag, or this token may not see it"})
}

// servable fails what would be answered from routes that are too old.
func (f *Flags) servable(c *call, key string) bool {
	if c.present.staleness() == "over" {
		answer(c.w, http.StatusInternalServerError, evaluation{
			Key: key, ErrorCode: "GENERAL",
			ErrorDetails: fmt.Sprintf("the state database has not answered for %s: what is known is too old to be served", c.present.age().Round(time.Second)),
		})
		return false
	}
	return true
}

func (f *Flags) bulk(c *call) {
	of, ok := c.readContext("")
	if !ok {
		return
	}
	if heard := c.r.URL.Query().Get("flagConfigEtag"); heard != "" && heard != c.configTag() {
		// The event came from a process that knows more: what this one has may be older.
		f.reload(c.r.Context(), time.Now())
		c.present = f.present.Load()
	}
	if !f.servable(c, "") {
		return
	}
	etag := c.tag(of)
	c.w.Header().Set("ETag", etag)
	if matches(c.r.Header.Get("If-None-Match"), etag) {
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	flags := []evaluation{}
	for _, r := range c.visible() {
		for _, kind := range flagKinds {
			flags = append(flags, c.evaluate(r, kind, of))
		}
	}
	metadata := map[string]any{"flagConfigEtag": c.configTag()}
	if c.present.staleness() != "fresh" {
		metadata["stale"], metadata["ageSeconds"] = true, int(c.present.age()/time.Second)
	}
	answer(c.w, http.StatusOK, map[string]any{
		"flags": flags, "metadata": metadata,
		"eventStreams": []map[string]any{{
			"type": "sse", "inactivityDelaySec": int(Inactivity / time.Second),
			"endpoint": map[string]string{"requestUri": eventsPath + "?ticket=" + ticket(c.from.ID, c.hash)},
		}},
	})
}

// configTag is the entity tag of what the flags are evaluated from, for this caller.
func (c *call) configTag() string {
	h := sha256.New()
	fmt.Fprintf(h, "1 %s\n", c.present.staleness())
	for _, r := range c.visible() {
		fmt.Fprintf(h, "%s %s %d %d %d %d\n", r.Migration, r.Route.Phase, r.Route.Percent, r.Route.Epoch, r.Route.Shadow, r.Lease)
	}
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// tag is the entity tag of an answer: the configuration and the context. One of the configuration alone would serve
// another key's answer.
func (c *call) tag(of evaluationContext) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %t %s", c.configTag(), of.has, of.key)
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// matches reports whether a header If-None-Match has the tag.
func matches(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
