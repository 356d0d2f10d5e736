package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// asks tells whether there is a person who can be asked.
func (c *cli) asks() bool { return isTerminal(c.in) && isTerminal(c.err) }

// ask puts a question and returns the line that is typed, trimmed and in lower case;
// "" where the input ends. Ctrl-C is noticed at once: the read goes on without
// anybody who waits for it, so a command that was told to stop must ask nothing more.
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

// readLine takes no byte behind the line: the next question's answer may be there.
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

// confirm asks whether to go on; where nobody can be asked, it does.
func (c *cli) confirm(ctx context.Context, yes bool, question string) error {
	if yes || !c.asks() {
		return nil
	}
	answer, err := c.ask(ctx, question+" [y/N] ")
	switch {
	case err != nil:
		return fmt.Errorf("nothing was changed: %w", err)
	case !strings.HasPrefix(answer, "y"):
		return usagef("nothing was changed; try: the same command with --yes")
	}
	return nil
}
