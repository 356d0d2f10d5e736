package postgres

import (
	"bytes"
	"encoding/json"

	"github.com/stranglerfig/migrator/record"
)

// eachElement changes the elements of an array's canonical text: a JSON array of the elements'
// canonical values, nested as the array is.
func eachElement(of change, to record.Kind) change {
	if of == nil {
		return nil
	}
	var list func(dst, text []byte) ([]byte, error)
	list = func(dst, text []byte) ([]byte, error) {
		var elements []json.RawMessage
		if err := json.Unmarshal(text, &elements); err != nil || elements == nil {
			return dst, errWholeText
		}
		dst = append(dst, '[')
		for i, element := range elements {
			if i > 0 {
				dst = append(dst, ',')
			}
			element = bytes.TrimSpace(element)
			var err error
			switch {
			case string(element) == "null":
				dst = append(dst, element...)
			case element[0] == '[':
				dst, err = list(dst, element)
			default:
				dst, err = oneElement(dst, element, of, to)
			}
			if err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	}
	return list
}

func oneElement(dst, element []byte, of change, to record.Kind) ([]byte, error) {
	text := element
	if element[0] == '"' {
		var value string
		if err := json.Unmarshal(element, &value); err != nil {
			return dst, err
		}
		text = []byte(value)
	}
	changed, err := of(nil, text)
	if err != nil {
		return dst, err
	}
	return appendElement(dst, to, changed), nil
}

// appendElement writes an element's canonical text as appendArray does.
func appendElement(dst []byte, kind record.Kind, text []byte) []byte {
	switch kind {
	case record.Int, record.Decimal, record.Float, record.Float32:
		if _, finite := parseNumber(text); finite {
			return append(dst, text...)
		}
	case record.Bool:
		if s := string(text); s == "true" || s == "false" {
			return append(dst, text...)
		}
	}
	return appendJSONString(dst, text)
}
