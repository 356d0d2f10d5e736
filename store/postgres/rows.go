package postgres

import (
	"fmt"
	"unsafe"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// decoder converts the server's texts to records. The record that decode returns is
// valid until the next call: its texts share one buffer.
type decoder struct {
	shape  *shape
	buffer []byte
	own    []byte // a value of another type than legacy's
	ends   []int
	record record.Record
}

func (s *shape) decoder() *decoder {
	return &decoder{shape: s, ends: make([]int, len(s.columns)), record: make(record.Record, len(s.columns))}
}

// decode reads the first values of raw, one for each field; nil is NULL.
func (d *decoder) decode(raw [][]byte) (record.Record, error) {
	d.buffer = d.buffer[:0]
	for i, c := range d.shape.columns {
		if raw[i] != nil {
			if err := d.value(c, raw[i]); err != nil {
				return nil, fmt.Errorf("column %q of %s (%s): %w", c.name, showTable(d.shape.name), c.declared, err)
			}
		}
		d.ends[i] = len(d.buffer)
	}
	all, at := unsafe.String(unsafe.SliceData(d.buffer), len(d.buffer)), 0 //nolint:gosec // valid until the next row overwrites it, as Scan documents
	for i, end := range d.ends {
		d.record[i] = record.Value{State: record.Null}
		if raw[i] != nil {
			d.record[i] = record.Value{State: record.Present, Text: all[at:end]}
		}
		at = end
	}
	return d.record, nil
}

// value appends a value in legacy's form.
func (d *decoder) value(c *column, raw []byte) (err error) {
	if !c.changesBack() {
		d.buffer, err = appendCanonical(d.buffer, c.format, raw)
		return err
	}
	if d.own, err = appendCanonical(d.own[:0], c.format, raw); err == nil {
		d.buffer, err = c.readLegacy(d.buffer, d.own)
	}
	return err
}

// row decodes one row, whose record and key are valid until the next call.
func (d *decoder) row(raw [][]byte) (store.Row, error) {
	r, err := d.decode(raw)
	if err != nil {
		return store.Row{}, err
	}
	key, err := d.shape.schema.KeyOf(r)
	return store.Row{Key: key, Found: true, Record: r}, err
}
