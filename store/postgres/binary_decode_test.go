package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestEncodeInvertsRender: the rendered text of a binary value is encoded to the same value.
func TestEncodeInvertsRender(t *testing.T) {
	t.Parallel()
	sized := func(size int, low, high int64) func() []byte {
		return func() []byte {
			n := low + int64(rand.Uint64N(uint64(high)-uint64(low)))
			if rand.IntN(2) == 0 { // most are far from all edges
				n %= 1 << (rand.IntN(62) + 1)
			}
			return binary.BigEndian.AppendUint64(nil, uint64(n))[8-size:]
		}
	}
	const micros0, micros1 = -211_813_488_000_000_000, 9_223_371_331_200_000_000 // what the server takes
	for name, random := range map[string]func() []byte{
		"int2": sized(2, math.MinInt16, math.MaxInt16), "int4": sized(4, math.MinInt32, math.MaxInt32), "int8": sized(8, -1<<61, 1<<61),
		"date": sized(4, -2_451_545, 2_145_031_949), "timestamp": sized(8, micros0, micros1), "timestamptz": sized(8, micros0, micros1),
		"bool": func() []byte { return []byte{byte(rand.IntN(2))} },
		"uuid": func() []byte { return sized(8, -1<<61, 1<<61)()[:8:8] },
	} {
		for range 20_000 {
			raw := random()
			if name == "uuid" {
				raw = append(raw, random()...)
			}
			text, err := binaryRenders[name](nil, raw)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := encoders[name]([]byte("x"), text); !ok || !bytes.Equal(got[1:], raw) {
				t.Fatalf("%s %x is %q, and encoded %x (%v)", name, raw, text, got[1:], ok)
			}
		}
	}
	for range 20_000 {
		digits := func(n int) string {
			var b strings.Builder
			for range n {
				b.WriteByte(byte('0' + rand.IntN(10)))
			}
			return b.String()
		}
		text := strings.TrimLeft(digits(rand.IntN(12)), "0")
		if text == "" {
			text = "0"
		}
		if n := rand.IntN(12); n > 0 {
			text += "." + digits(n)
		}
		raw, ok := encodeNumeric(nil, []byte("-"+text))
		if again, err := renderNumeric(nil, raw); !ok || err != nil || string(again) != "-"+text {
			t.Fatalf("-%s is encoded %x (%v), which is %q (%v)", text, raw, ok, again, err)
		}
	}
}

// TestEncodeRefuses: texts that no server prints are left to the server.
func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, texts := range map[string][]string{
		"bool": {"", "t", "TRUE"}, "int2": {"32768", "", "1.0"}, "int4": {"2147483648", "0x1"}, "int8": {"9223372036854775808", "1_0"},
		"numeric": {"", "-", ".5", "5.", "1e5", "1,5", "+1", " 1", "nan", "1.2.3"},
		"float8":  {"", "one"},
		"uuid":    {"", "00000000-0000-0000-0000-00000000000", "g0000000-0000-0000-0000-000000000000", "{0000000-0000-0000-0000-000000000000"},
		"date":    {"", "2024-02-30", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-1-1", "24-02-29 ", "2024-02-29T00:00:00"},
		"timestamp": {
			"", "2024-02-29", "2024-02-29 12:00:00", "2024-02-29T24:00:00", "2024-02-29T12:60:00", "2024-02-29T12:00:00.1234567",
			"2024-02-29T12:00:00Z", "5000000-01-01T00:00:00",
		},
		"timestamptz": {"2024-02-29T12:00:00", "2024-02-29T12:00:00+00"},
	} {
		for _, text := range texts {
			if raw, ok := encoders[name](nil, []byte(text)); ok {
				t.Errorf("%s %q became %x", name, text, raw)
			}
		}
	}
	if raw, ok := encodeDate(nil, []byte("2000-02-29")); !ok || fmt.Sprintf("%x", raw) != "0000003b" {
		t.Errorf("a leap day is %x", raw)
	}
}
