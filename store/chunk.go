package store

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Chunk is a part of legacy's records that can be read on its own. Only
// the store that cut it can interpret the part. Callers keep a chunk, also as JSON between
// runs, so that an interrupted job resumes, and pass it back. Chunks are comparable
// by ==.
type Chunk struct {
	Rows int64  // estimate
	part string // the store's JSON object, in canonical form; "": none
}

// MakeChunk makes a chunk; stores call it. part must encode to a JSON object without the
// key "rows". Part decodes it. Its form is stored in state databases: a later version of
// the store must read it, or Scan must refuse it by ErrMoved, which makes an
// interrupted job cut legacy again.
func MakeChunk(rows int64, part any) (Chunk, error) {
	text, err := json.Marshal(part)
	if err != nil {
		return Chunk{}, fmt.Errorf("make a chunk: %w", err)
	}
	var c Chunk
	if err := c.UnmarshalJSON(text); err != nil {
		return Chunk{}, err
	}
	c.Rows = rows
	return c, nil
}

// Part decodes the part that was passed to MakeChunk.
func (c Chunk) Part(into any) error {
	if c.part == "" {
		return fmt.Errorf("read a chunk: it names no part of legacy")
	}
	if err := json.Unmarshal([]byte(c.part), into); err != nil {
		return fmt.Errorf("read a chunk: %w", err)
	}
	return nil
}

// MarshalJSON implements json.Marshaler: the part's own fields, and rows.
func (c Chunk) MarshalJSON() ([]byte, error) {
	text := fmt.Appendf(nil, `{"rows":%d`, c.Rows)
	if len(c.part) <= len("{}") {
		return append(text, '}'), nil
	}
	return append(append(text, ','), c.part[1:]...), nil
}

// UnmarshalJSON implements json.Unmarshaler. The order of keys and the blanks,
// which a database may change, do not make a different chunk.
func (c *Chunk) UnmarshalJSON(text []byte) error {
	fields := map[string]any{}
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	if err := in.Decode(&fields); err != nil {
		return fmt.Errorf("read a chunk: %w", err)
	}
	*c = Chunk{}
	if rows, ok := fields["rows"].(json.Number); ok {
		n, err := rows.Int64()
		if err != nil {
			return fmt.Errorf("read a chunk's rows: %w", err)
		}
		c.Rows = n
	}
	delete(fields, "rows")
	if len(fields) == 0 {
		return nil
	}
	part, err := json.Marshal(fields)
	c.part = string(part)
	return err
}
