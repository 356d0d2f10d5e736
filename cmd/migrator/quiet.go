package main

import (
	"bytes"
	"io"
)

// mostHeld bounds what a quiet command keeps, in bytes: of more, the oldest is dropped.
const mostHeld = 1 << 20

// holder keeps what a quiet command prints, in its order, until it is known whether that is needed.
type holder struct {
	streams streams // as they were
	parts   []heldPart
	size    int
}

type heldPart struct {
	to   io.Writer
	text []byte
}

// held is one of the two streams of a holder.
type held struct {
	*holder
	to io.Writer
}

func (h held) Write(p []byte) (int, error) {
	h.parts = append(h.parts, heldPart{h.to, bytes.Clone(p)})
	for h.size += len(p); h.size > mostHeld && len(h.parts) > 1; h.parts = h.parts[1:] {
		h.size -= len(h.parts[0].text)
	}
	return len(p), nil
}

// beQuiet keeps all that is printed from now on. Log lines are not kept: a warning is one of a success too.
func (c *cli) beQuiet() {
	c.holder = &holder{streams: c.streams}
	c.out, c.err = held{c.holder, c.out}, held{c.holder, c.err}
}

// release prints what was kept, as after a failure.
func (c *cli) release() {
	if c.holder == nil {
		return
	}
	for _, p := range c.holder.parts {
		_, _ = p.to.Write(p.text)
	}
	c.streams, c.holder = c.holder.streams, nil
}
