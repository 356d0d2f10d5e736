package load

import (
	"encoding/json"
	"strconv"
	"time"
)

// line is a write in the ledger's file, as migrator drill reads it.
type line struct {
	Key     int64             `json:"key,string"`
	At      time.Time         `json:"at"`
	Deleted bool              `json:"deleted,omitempty"`
	Unknown bool              `json:"unknown,omitempty"`
	Fields  map[string]string `json:"fields,omitempty"`
}

// revisionOf returns the field that distinguishes the states of a product.
func revisionOf(o Outcome) map[string]string {
	if o.Deleted {
		return nil
	}
	return map[string]string{"revision": strconv.FormatInt(o.Revision, 10)}
}

// write adds a line, with the ledger's lock held: in the order of the product's states.
func (l *Ledger) write(one line) {
	if l.out == nil {
		return
	}
	one.At = time.Now().UTC()
	text, err := json.Marshal(one)
	if err == nil {
		_, err = l.out.Write(append(text, '\n'))
	}
	if err != nil {
		l.out = nil // a reader of the file misses the rest
	}
}
