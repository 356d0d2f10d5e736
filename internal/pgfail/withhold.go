package pgfail

import (
	"bufio"
	"encoding/binary"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Withhold returns a reader of the messages of a server that holds records. Errors in it quote
// no value of a record: not as a detail, not in the context of a COPY, and not in a text that a
// user's function raises. So whatever prints, logs or stores an error later can't leak one. A
// text that contains keep, which the caller has sent itself, becomes keep.
//
// Everything but errors passes unchanged. It is for a pgconn.Config's BuildFrontend.
func Withhold(r *bufio.Reader, keep string) io.Reader { return &withholder{r: r, keep: keep} }

// header is the length of a message's type and length.
const header = 5

type withholder struct {
	r     *bufio.Reader
	keep  string
	left  int    // of the present message
	error []byte // what is left of one that was written again
}

// Read implements io.Reader. It waits for the first bytes alone, and returns what is buffered
// beside them: rows pass in large pieces.
func (w *withholder) Read(p []byte) (n int, err error) {
	if len(w.error) > 0 {
		n = copy(p, w.error)
		w.error = w.error[n:]
		return n, nil
	}
	for n < len(p) {
		if w.left == 0 {
			if n > 0 && w.r.Buffered() < header {
				break
			}
			head, err := w.r.Peek(header)
			if len(head) < header {
				m, _ := w.r.Read(p[n:min(len(p), n+len(head))])
				return n + m, err
			}
			size := 1 + int(binary.BigEndian.Uint32(head[1:]))
			if head[0] == 'E' && size >= header {
				if n > 0 {
					break
				}
				if w.error, err = w.rewrite(size); err != nil {
					return 0, err
				}
				return w.Read(p)
			}
			w.left = max(size, header) // a shorter one is none, which the reader of messages reports
		}
		k := min(w.left, len(p)-n)
		if n > 0 {
			k = min(k, w.r.Buffered())
			if k == 0 {
				break
			}
		}
		m, err := w.r.Read(p[n : n+k])
		n, w.left = n+m, w.left-m
		if err != nil || m == 0 {
			return n, err
		}
	}
	return n, nil
}

// rewrite reads an error of a size, and returns it without values.
func (w *withholder) rewrite(size int) ([]byte, error) {
	raw := make([]byte, size)
	if _, err := io.ReadFull(w.r, raw); err != nil {
		return nil, err
	}
	var e pgproto3.ErrorResponse
	if err := e.Decode(raw[header:]); err != nil {
		return nil, err
	}
	withoutValues(&e, w.keep)
	return e.Encode(nil)
}

// plain are the classes whose texts name objects of the schema and settings at most, and single
// states beside them. Of a refused value the class 22 quotes the value, all but its length.
var plain = []string{
	"08", "0A", "0B", "0L", "0P", "21", "23", "24", "25", "26", "27", "28", "2B", "2D", "34", "3B", "3D", "3F",
	"40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "22001", "XX001", "XX002", "MG",
}

var functionInContext = regexp.MustCompile(`(?m)^PL/\w+ function (\S+?)(?:\(| line )|^SQL function "([^"]+)"|^(PL/Python|PL/Perl)`)

// withoutValues removes what may quote a value of a record.
func withoutValues(e *pgproto3.ErrorResponse, keep string) {
	raised, own := raisedBy(e.Where)
	e.Detail, e.InternalQuery, e.InternalPosition, e.Where = "", "", 0, ""
	known := slices.ContainsFunc(plain, func(class string) bool { return strings.HasPrefix(e.Code, class) })
	switch {
	case keep != "" && strings.Contains(e.Message, keep):
		e.Message, e.Hint = keep, ""
		return
	case raised == "" && known, own && known:
		return
	}
	text := "its text may quote a value, and is withheld"
	if strings.HasPrefix(e.Code, "22") {
		text = "a value does not fit; " + text
	}
	for _, of := range []struct{ what, name string }{
		{"constraint", e.ConstraintName}, {"column", e.ColumnName}, {"table", e.TableName}, {"function", raised},
	} {
		if of.name != "" {
			text += ", " + of.what + " " + of.name
		}
	}
	e.Message, e.Hint = text, ""
}

// raisedBy returns the function in the context of an error that is nearest to it, and whether
// all functions there are migrator's: a value in the context may look like one.
func raisedBy(context string) (function string, own bool) {
	for n, found := range functionInContext.FindAllStringSubmatch(context, -1) {
		name := found[1] + found[2] + found[3]
		if n == 0 {
			function, own = name, true
		}
		own = own && (strings.HasPrefix(name, "migrator_") || strings.HasPrefix(name, "migrator."))
	}
	return function, own
}
