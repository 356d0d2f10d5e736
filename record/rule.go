package record

import "time"

// Rule changes how the values at a path are compared.
type Rule struct {
	// Path is a JSON Pointer (RFC 6901): /price is a field, /attributes/colour
	// reaches into a JSON field.
	Path string `yaml:"path" json:"path" jsonschema:"required" jsonschema_description:"JSON Pointer: /price, or /attributes/colour inside a JSON field"`
	// Ignore is the reason why the values are not compared at all.
	Ignore string `yaml:"ignore" json:"ignore,omitempty" jsonschema_description:"Why this is not compared"`
	// Tolerance is the largest accepted difference of two numbers, a decimal.
	Tolerance string `yaml:"tolerance" json:"tolerance,omitempty" jsonschema_description:"Largest accepted difference of two numbers"`
	// Precision is the unit to which both timestamps are cut before they are compared.
	Precision Precision `yaml:"precision" json:"precision,omitempty" jsonschema_description:"Unit to which timestamps are cut, such as 1ms"`
	// As says what the values mean, where the types of the two stores leave that open: a text
	// that is read as a uuid.
	As string `yaml:"as" json:"as,omitempty" jsonschema:"enum=boolean,enum=date,enum=double,enum=int,enum=json,enum=jsonb,enum=numeric,enum=timestamp,enum=timestamptz,enum=uuid" jsonschema_description:"What the values mean, where the types of both stores leave that open: a text that is a uuid"`
	// Zone is the time zone of the local times, where one store has timestamp and the other timestamptz.
	Zone string `yaml:"zone" json:"zone,omitempty" jsonschema_description:"Time zone of the local times, such as Europe/Berlin, where one store has timestamp and the other timestamptz"`
	// Show lets findings and logs contain the values themselves.
	Show bool `yaml:"show" json:"show,omitempty" jsonschema_description:"Findings may contain these values in clear text"`
}

// Precision is a unit of time.
type Precision time.Duration

// MarshalText implements encoding.TextMarshaler.
func (p Precision) MarshalText() ([]byte, error) { return []byte(time.Duration(p).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Precision) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*p = Precision(d)
	return err
}
