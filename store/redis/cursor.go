package redis

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
)

var errNoScan = hint.Errorf(hint.Hint{Text: "allow SCAN to the user of target.url"}, "the server refuses SCAN")

// permanentRefusal reports whether a refusal is permanent: the server does not know
// the command, or the user may not run it.
func permanentRefusal(refusal string) bool {
	text := strings.ToLower(refusal)
	for _, phrase := range []string{"noperm", "no permission", "can't run this command", "unknown"} {
		if strings.Contains(text, phrase) {
			return true
		}
	}
	return false
}

// cursor iterates over the keys of one server that match a pattern.
type cursor struct {
	pattern string
	at      string // "": at the end
}

func (c *cursor) ended() bool { return c.at == "" }

// ask appends the SCAN command for the next names.
func (c *cursor) ask(dst []byte) []byte {
	return appendCommand(dst, "SCAN", c.at, "MATCH", c.pattern, "COUNT", strconv.Itoa(scanCount))
}

// answered reads a reply up to its names, and returns their number. The names follow.
func (c *cursor) answered(conn *bulkConn) (names int, err error) {
	kind, n, err := conn.header()
	switch {
	case err != nil:
		return 0, err
	case kind == '-' && permanentRefusal(conn.refused):
		return 0, errNoScan
	case kind == '-':
		return 0, fmt.Errorf("SCAN: the server replied %w", new(withholding).failureOf(reply(conn.refused)))
	case kind != '*' || n != 2:
		return 0, errUnexpectedReply
	}
	if kind, n, err = conn.header(); err != nil || kind != '$' || n < 0 {
		return 0, cmp.Or(err, errUnexpectedReply)
	}
	text, err := conn.text(n)
	if err != nil {
		return 0, err
	}
	if c.at = string(text); c.at == "0" {
		c.at = ""
	}
	if kind, names, err = conn.header(); err != nil || kind != '*' {
		return 0, cmp.Or(err, errUnexpectedReply)
	}
	return names, nil
}

// name reads one name, valid until the next read.
func (c *cursor) name(conn *bulkConn) ([]byte, error) {
	kind, n, err := conn.header()
	if err != nil || kind != '$' || n < 0 {
		return nil, cmp.Or(err, errUnexpectedReply)
	}
	return conn.text(n)
}

// page sends the pending command, requests the next page, and reads the names.
func (c *cursor) page(conn *bulkConn) ([]string, error) {
	if err := conn.flush(); err != nil {
		return nil, err
	}
	count, err := c.answered(conn)
	if err != nil {
		return nil, err
	}
	if !c.ended() {
		conn.out = c.ask(conn.out)
		if err := conn.flush(); err != nil {
			return nil, err
		}
	}
	var all []byte
	ends := make([]int, count)
	for i := range ends {
		name, err := c.name(conn)
		if err != nil {
			return nil, err
		}
		all = append(all, name...)
		ends[i] = len(all)
	}
	text, names, from := string(all), make([]string, count), 0
	for i, end := range ends {
		names[i], from = text[from:end], end
	}
	return names, nil
}
