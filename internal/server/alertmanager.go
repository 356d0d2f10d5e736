package server

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/phases"
)

// Matcher selects the alerts of a trigger: an alert must have all Labels, with these
// values. Without labels it matches nothing.
type Matcher struct {
	Trigger string
	Labels  map[string]string
}

// Alert is a firing alert, with the trigger that it is for.
type Alert struct {
	Trigger     string            `json:"trigger"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	Fingerprint string            `json:"fingerprint"` // of the labels
}

// Key identifies one firing of an alert, however often it is sent. It has 128 bytes and a trigger's
// name at most.
func (a Alert) Key() string {
	return a.Trigger + " " + a.Fingerprint + " " + a.StartsAt.UTC().Format(time.RFC3339Nano)
}

const (
	payloadVersion = "4"
	defaultMaxBody = 1 << 20
)

// payload is the part of a webhook that is read.
type payload struct {
	Version   string `json:"version"`
	Truncated int    `json:"truncatedAlerts"`
	Alerts    []struct {
		Status string `json:"status"`
		Alert
	} `json:"alerts"`
}

// parse reads a webhook. It ignores other fields.
func parse(body []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
			return payload{}, fmt.Errorf("not an Alertmanager webhook: %s is no %s", wrong.Field, wrong.Type)
		}
		return payload{}, fmt.Errorf("not an Alertmanager webhook: %w", err)
	}
	if p.Version != payloadVersion {
		return payload{}, fmt.Errorf("the webhook's version is %q: want %q", p.Version, payloadVersion)
	}
	for i := range p.Alerts {
		a := &p.Alerts[i]
		switch {
		case a.Status != "firing" && a.Status != "resolved":
			return payload{}, fmt.Errorf("alert %d is %q, neither firing nor resolved", i+1, a.Status)
		case len(a.Labels) == 0 || a.StartsAt.IsZero():
			return payload{}, fmt.Errorf("alert %d has no labels or no startsAt", i+1)
		}
		a.Trigger = "" // the sender must not choose it
		storable(a.Labels)
		storable(a.Annotations)
		if !fingerprint.MatchString(a.Fingerprint) {
			text, _ := json.Marshal(a.Labels) // in the order of their names
			a.Fingerprint = fmt.Sprintf("%x", sha256.Sum256(text))
		}
	}
	return p, nil
}

// fingerprint is what Alertmanagers send: another one is computed, so that a key stays short.
var fingerprint = regexp.MustCompile(`^[0-9a-zA-Z]{1,64}$`)

// storable replaces U+0000, which no text of PostgreSQL can hold, by the sign for it: an alert
// that can't be recorded would be sent, and refused, for ever. What is no UTF-8 the JSON parser
// has replaced.
func storable(words map[string]string) {
	for name, word := range words {
		clean := strings.ReplaceAll(name, "\x00", "\u2400")
		if clean != name {
			delete(words, name)
		}
		words[clean] = strings.ReplaceAll(word, "\x00", "\u2400")
	}
}

// What is kept of an alert, as evidence and for webhooks: an evaluation holds 64 KiB.
const (
	maxWords    = 20  // labels, and annotations, the first by name
	maxWordName = 60  // characters
	maxWord     = 200 // characters
)

func bounded(words map[string]string) map[string]string {
	kept := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(words)) {
		if len(kept) == maxWords {
			break
		}
		kept[oneline.Within(name, maxWordName)] = oneline.Within(words[name], maxWord)
	}
	return kept
}

// sorted pairs each alert with the triggers that it is for.
func sorted(p payload, matchers []Matcher) (r Received) {
	for _, a := range p.Alerts {
		if a.Status == "firing" && a.Labels["alertname"] == phases.Watchdog {
			r.Watchdog = true
		}
		for _, m := range matchers {
			switch one := a.Alert.of(m.Trigger); {
			case !m.matches(a.Labels):
			case a.Labels["alertname"] == phases.Watchdog:
			case a.Labels["source"] == phases.OwnSource:
				r.Own++
			case a.Status == "firing":
				r.Firing = append(r.Firing, one)
			default:
				r.Resolved = append(r.Resolved, one)
			}
		}
	}
	return r
}

// of is the alert as one for a trigger.
func (a Alert) of(trigger string) Alert {
	a.Trigger = trigger
	a.Labels, a.Annotations = bounded(a.Labels), bounded(a.Annotations)
	return a
}

func (m Matcher) matches(labels map[string]string) bool {
	for name, value := range m.Labels {
		if got, ok := labels[name]; !ok || got != value {
			return false
		}
	}
	return len(m.Labels) > 0
}

// refuse does not wait for a body that is still on its way.
func refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Connection", "close")
	reply(w, code, map[string]string{"error": oneline.Of(err.Error())})
}

func reply(w http.ResponseWriter, code int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(document) // the caller may have gone
}
