package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// interactive reports whether input and errors are a terminal.
func (c *cli) interactive() bool { return isTerminal(c.in) && isTerminal(c.err) }

// ask prints a question and returns the typed line, trimmed and in lower case; "" at the
// end of the input. It returns as soon as ctx ends, and leaves its read of the input
// running: that read takes the next line, so a canceled command must not ask again.
func (c *cli) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(c.err, question)
	typed := make(chan string, 1)
	go func() { typed <- readLine(c.in) }()
	select {
	case line := <-typed:
		return strings.ToLower(strings.TrimSpace(line)), nil
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return "", ctx.Err()
	}
}

// readLine reads no byte after the line: the next question's answer may follow.
func readLine(in io.Reader) string {
	var line []byte
	one := make([]byte, 1)
	for len(line) < 1000 {
		n, err := in.Read(one)
		if n == 1 && one[0] == '\n' || err != nil {
			break
		}
		line = append(line, one[:n]...)
	}
	return string(line)
}

// confirm asks whether to continue. Without a terminal it continues.
func (c *cli) confirm(ctx context.Context, yes bool, question string) error {
	switch {
	case yes:
		return nil
	case !c.interactive():
		return usageTry(try("the same command with --yes"), "nothing was changed: without a terminal this needs --yes")
	}
	answer, err := c.ask(ctx, question+" [y/N] ")
	switch {
	case err != nil:
		return fmt.Errorf("nothing was changed: %w", err)
	case !strings.HasPrefix(answer, "y"):
		return usageTry(try("the same command with --yes"), "nothing was changed")
	}
	return nil
}
