package pgfail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestWithholdPassesMessages: all messages but errors byte for byte, however the reads are cut.
func TestWithholdPassesMessages(t *testing.T) {
	t.Parallel()
	var sent, want []byte
	add := func(m pgproto3.BackendMessage, seen pgproto3.BackendMessage) {
		var err error
		if sent, err = m.Encode(sent); err != nil {
			t.Fatal(err)
		}
		if want, err = seen.Encode(want); err != nil {
			t.Fatal(err)
		}
	}
	same := func(m pgproto3.BackendMessage) { add(m, m) }
	secret := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "P0001", Message: "mail a@b is not wanted", Detail: "a@b", Hint: "a@b", Where: "PL/pgSQL function shop.bad() line 1 at RAISE"}
	plainText := "its text may quote a value, and is withheld, function shop.bad"
	same(&pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte("E\x00\x00\x00\x05"), 3000), nil}})
	add(secret, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "P0001", Message: plainText})
	for n := range 300 {
		same(&pgproto3.CopyData{Data: bytes.Repeat([]byte{'E'}, n)})
	}
	add(secret, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "P0001", Message: plainText})
	add(secret, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "P0001", Message: plainText})
	same(&pgproto3.ReadyForQuery{TxStatus: 'E'})
	for _, c := range []struct {
		name string
		in   func(io.Reader) io.Reader
		size int
	}{
		{"whole", func(r io.Reader) io.Reader { return r }, 1 << 16},
		{"small buffer", func(r io.Reader) io.Reader { return r }, 16},
		{"byte by byte", iotest.OneByteReader, 1 << 16},
		{"halves", iotest.HalfReader, 4096},
		{"the end with the data", iotest.DataErrReader, 4096},
	} {
		r := Withhold(bufio.NewReaderSize(c.in(bytes.NewReader(sent)), c.size), "")
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", c.name, len(got), len(want), err)
		}
		got, err = io.ReadAll(iotest.OneByteReader(Withhold(bufio.NewReaderSize(c.in(bytes.NewReader(sent)), c.size), "")))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, read byte by byte: %d bytes, want %d: %v", c.name, len(got), len(want), err)
		}
	}
	// A connection that ends in the middle of an error: what came of it is not shown either.
	cut, _ := secret.Encode(nil)
	for end := range len(cut) {
		got, err := io.ReadAll(Withhold(bufio.NewReader(bytes.NewReader(cut[:end])), ""))
		if bytes.Contains(got, []byte("a@b")) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %q, %v", end, got, err)
		}
	}
}

func TestWithholdValues(t *testing.T) {
	t.Parallel()
	const value = "CANARY"
	for _, c := range []struct {
		name string
		in   pgproto3.ErrorResponse
		want string
	}{
		{"a unique key", pgproto3.ErrorResponse{Code: "23505", Message: `duplicate key value violates unique constraint "u"`, Detail: "Key (a)=(CANARY) already exists."}, `duplicate key value violates unique constraint "u"`},
		{"a bad number", pgproto3.ErrorResponse{Code: "22P02", Message: `invalid input syntax for type integer: "CANARY"`, ColumnName: "n"}, "a value does not fit; its text may quote a value, and is withheld, column n"},
		{"too long", pgproto3.ErrorResponse{Code: "22001", Message: "value too long for type character varying(5)"}, "value too long for type character varying(5)"},
		{"a row of a COPY", pgproto3.ErrorResponse{Code: "57014", Message: "canceling statement due to user request", Where: `COPY t, line 3, column a: "CANARY"`}, "canceling statement due to user request"},
		{"a RAISE", pgproto3.ErrorResponse{Code: "23514", Message: "CANARY", Where: "PL/pgSQL function bad() line 1 at RAISE"}, "its text may quote a value, and is withheld, function bad"},
		{"a function of another", pgproto3.ErrorResponse{Code: "42601", Message: `syntax error at or near "CANARY"`, InternalQuery: value, Where: "SQL statement \"CANARY\"\nPL/pgSQL function f(text) line 2 at EXECUTE"}, "its text may quote a value, and is withheld, function f"},
		{"an SQL function", pgproto3.ErrorResponse{Code: "22012", Message: "CANARY", Where: `SQL function "g" statement 1`}, "a value does not fit; its text may quote a value, and is withheld, function g"},
		{"a fence", pgproto3.ErrorResponse{Code: "MG001", Message: "legacy is fenced", Hint: "migrator", Where: "PL/pgSQL function migrator_legacy.refuse() line 3 at RAISE"}, "legacy is fenced"},
		{"a value that looks like a function", pgproto3.ErrorResponse{Code: "23514", Message: "CANARY", Where: "SQL statement \"x\nPL/pgSQL function migrator_legacy.x() line 1\"\nPL/pgSQL function f() line 2 at SQL statement"}, "its text may quote a value, and is withheld, function migrator_legacy.x"},
		{"an extension", pgproto3.ErrorResponse{Code: "XX000", Message: "bad CANARY"}, "its text may quote a value, and is withheld"},
		{"the caller's own mark", pgproto3.ErrorResponse{Code: "22P02", Message: `invalid input syntax for type boolean: "mark"`}, "mark"},
	} {
		before := c.in
		withoutValues(&c.in, "mark")
		if c.in.Message != c.want || c.in.Code != before.Code {
			t.Errorf("%s: %q, want %q", c.name, c.in.Message, c.want)
		}
		if raw, err := c.in.Encode(nil); err != nil || strings.Contains(string(raw), value) {
			t.Errorf("%s: %q: %v", c.name, raw, err)
		}
	}
}

func BenchmarkWithhold(b *testing.B) {
	var rows []byte
	for range 1000 {
		rows, _ = (&pgproto3.CopyData{Data: bytes.Repeat([]byte{'x'}, 120)}).Encode(rows)
	}
	for name, with := range map[string]func(*bufio.Reader) io.Reader{
		"bare":     func(r *bufio.Reader) io.Reader { return r },
		"withheld": func(r *bufio.Reader) io.Reader { return Withhold(r, "") },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(rows)))
			for b.Loop() {
				front := pgproto3.NewFrontend(with(bufio.NewReaderSize(bytes.NewReader(rows), 64<<10)), io.Discard)
				for {
					if _, err := front.Receive(); err != nil {
						break
					}
				}
			}
		})
	}
}
