package postgres

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/record"
)

// appendCanonical appends the canonical form of the text that the server printed.
func appendCanonical(dst []byte, f format, raw []byte) ([]byte, error) {
	if f.kind == record.Array {
		return appendArray(dst, f, raw)
	}
	return appendScalar(dst, f.kind, raw)
}

var errTextForm = errors.New("the server's text has another form than its type")

func appendScalar(dst []byte, kind record.Kind, raw []byte) ([]byte, error) {
	switch kind {
	case record.Bool:
		switch string(raw) {
		case "t":
			return append(dst, "true"...), nil
		case "f":
			return append(dst, "false"...), nil
		}
		return dst, errTextForm
	case record.Bytes:
		digits, ok := bytes.CutPrefix(raw, []byte(`\x`))
		if !ok {
			return dst, errTextForm
		}
		return hex.AppendDecode(dst, digits)
	case record.Timestamp, record.TimestampTZ:
		return appendInstant(dst, kind, raw)
	default:
		return append(dst, raw...), nil
	}
}

var suffixBC = []byte(" BC")

// appendInstant converts "2024-02-29 12:00:00.5+00 BC" to "2024-02-29T12:00:00.5Z BC".
func appendInstant(dst []byte, kind record.Kind, raw []byte) ([]byte, error) {
	if bytes.HasSuffix(raw, []byte("infinity")) {
		return append(dst, raw...), nil
	}
	body, bc := bytes.CutSuffix(raw, suffixBC)
	day, clock, ok := bytes.Cut(body, []byte(" "))
	if !ok {
		return dst, errTextForm
	}
	dst = append(append(dst, day...), 'T')
	if kind == record.TimestampTZ {
		if clock, ok = bytes.CutSuffix(clock, []byte("+00")); !ok {
			return dst, fmt.Errorf("%w: the session's time zone is not UTC", errTextForm)
		}
		dst = append(append(dst, clock...), 'Z')
	} else {
		dst = append(dst, clock...)
	}
	if bc {
		dst = append(dst, suffixBC...)
	}
	return dst, nil
}

// fromCanonical converts a canonical text to one that the server reads as the column's
// type. The server validates the value; this function fails for arrays only.
func fromCanonical(f format, text string) (string, error) {
	if f.kind == record.Array {
		return arrayLiteral(f, text)
	}
	return scalarInput(f.kind, text), nil
}

func scalarInput(kind record.Kind, text string) string {
	if kind == record.Bytes {
		return `\x` + hex.EncodeToString([]byte(text))
	}
	return text
}
