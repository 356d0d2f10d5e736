package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ticket opens the event stream of a token: a browser's EventSource sends no header. It is made with what every server
// has of the token, ends with it, and opens nothing else.
func ticket(id int64, hash [sha256.Size]byte) string {
	mac := hmac.New(sha256.New, hash[:])
	_, _ = mac.Write(binary.BigEndian.AppendUint64([]byte("migrator events 1 "), uint64(id)))
	return strconv.FormatInt(id, 10) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// holder finds the bearer of a ticket, or of a header.
func (f *Flags) holder(r *http.Request) (c *call, ok bool) {
	p := f.present.Load()
	if p == nil {
		return nil, false
	}
	given := r.URL.Query().Get("ticket")
	number, _, _ := strings.Cut(given, ".")
	for hash, b := range p.Bearers {
		if strconv.FormatInt(b.ID, 10) == number && subtle.ConstantTimeCompare([]byte(ticket(b.ID, hash)), []byte(given)) == 1 && time.Now().Before(b.Until) {
			return &call{r: r, from: b, hash: hash, present: p}, true
		}
	}
	return nil, false
}

// events is a stream of changes: one event each time that the configuration's tag differs from the one that the client
// has heard of, comments in between, and the end when the token ends.
func (f *Flags) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	c, ok := f.holder(r)
	if !ok {
		f.guard.refuseToken(w, r)
		return
	}
	c.w = w
	if !f.guard.originAllowed(w, r) || !f.guard.mayGo(c) {
		return
	}
	closed, ok := f.openStream()
	if !ok {
		f.guard.tooMany(w, "event streams", 10*time.Second)
		return
	}
	defer closed()
	send := eventStream(w)
	heard := r.Header.Get("Last-Event-ID")
	if !send("retry: 1000\n\n") {
		return
	}
	beat := time.NewTicker(f.Heartbeat)
	defer beat.Stop()
	for {
		changed := f.next() // before what is there is read: no change falls between
		if c, ok = f.holder(r); !ok {
			return
		}
		// The first one has no name of a former: a change may have come between the answer and this stream.
		if tag := c.configTag(); strings.Trim(tag, `"`) != heard {
			heard = strings.Trim(tag, `"`)
			data, _ := json.Marshal(map[string]any{"type": "refetchEvaluation", "etag": tag, "lastModified": time.Now().Unix()})
			if !send("id: " + heard + "\nevent: message\ndata: " + string(data) + "\n\n") {
				return
			}
		}
		select {
		case <-changed:
		case <-beat.C:
			if !send(":\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		case <-f.over:
			return
		}
	}
}

// eventStream begins an answer of server-sent events; false: the client is gone.
func eventStream(w http.ResponseWriter) (send func(text string) bool) {
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect events
	return func(text string) bool {
		// A client that does not read must not keep the stream for ever.
		_ = out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err := io.WriteString(w, text) //nolint:gosec // an event stream of tags and numbers: no page takes it as HTML
		return err == nil && out.Flush() == nil
	}
}
