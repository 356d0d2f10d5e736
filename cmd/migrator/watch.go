package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
)

const watchEvery = time.Second

// watch shows the status each second until ctx ends. On a terminal it draws the lines that have changed, and all of
// them at once when the terminal's size changes. Elsewhere, and on a terminal that can't, it prints the status when it has changed. As JSON it
// prints a document a second.
func (c *cli) watch(ctx context.Context, store *state.Store, args []string) error {
	resized := make(chan os.Signal, 1)
	notifyResize(resized)
	defer signal.Stop(resized)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	kept := map[string]trends{}
	var p painter
	var printed string
	show := func(found []migrationStatus) error {
		if c.settings.Output == outputJSON {
			return c.showStatus(found)
		}
		text, err := c.printed(func() error { return c.showStatus(found) })
		if err != nil {
			return err
		}
		columns, lines := size(c.out)
		if columns > 0 && os.Getenv("TERM") != "dumb" {
			_, err = io.WriteString(c.out, p.draw(text, columns, lines))
			return err
		}
		if columns > 0 {
			text = fit(text, columns, lines-1)
		}
		if now := withoutSpans(text); now != printed {
			printed = now
			_, err = io.WriteString(c.out, text)
		}
		return err
	}
	for {
		found, err := c.readStatus(ctx, store, args, kept)
		if err == nil {
			err = show(found)
		}
		for waits := true; waits && err == nil; {
			select {
			case <-ctx.Done():
				return nil
			case <-resized:
				err = show(found)
			case <-tick.C:
				waits = false
			}
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// spans of time as humanize.Span writes them: they change each second by themselves.
var spans = regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|[dhms])(\d+(\.\d+)?(ns|µs|ms|[dhms]))*\b`)

func withoutSpans(text string) string { return spans.ReplaceAllString(text, "") }

// painter draws one picture over the other on a terminal. It never clears what it draws again at once, which
// would flicker.
type painter struct {
	columns, lines int
	shown          []string
}

// draw returns what makes the terminal show a text: the lines that differ from what it shows, or all of them
// where the size is another one, since terminals break and move lines then.
func (p *painter) draw(text string, columns, lines int) string {
	all := closed(strings.Split(strings.TrimSuffix(fit(text, columns, lines-1), "\n"), "\n"))
	all = all[:min(len(all), max(lines-1, 1))]
	var out strings.Builder
	switch {
	case p.columns == 0:
		out.WriteString("\x1b[H\x1b[2J")
	case p.columns != columns || p.lines != lines:
		p.shown = nil
	}
	for i, line := range all {
		if i < len(p.shown) && p.shown[i] == line {
			continue
		}
		fmt.Fprintf(&out, "\x1b[%d;1H%s", i+1, line)
		// After a line that is full the cursor is still on its last character, which this would erase.
		if width(line) < columns {
			out.WriteString("\x1b[K")
		}
	}
	if len(all) != len(p.shown) {
		fmt.Fprintf(&out, "\x1b[%d;1H\x1b[J", len(all)+1)
	} else if out.Len() > 0 {
		fmt.Fprintf(&out, "\x1b[%d;1H", len(all)+1)
	}
	p.columns, p.lines, p.shown = columns, lines, all
	return out.String()
}

// closed ends a style with its line, and begins it again in the next: a line may be drawn alone.
func closed(lines []string) []string {
	style := ""
	for i, line := range lines {
		line = style + line
		style = ""
		if at := strings.LastIndex(line, "\x1b["); at >= 0 {
			if end := strings.IndexByte(line[at:], 'm'); end > 0 && line[at:at+end+1] != "\x1b[0m" {
				style = line[at : at+end+1]
				line += "\x1b[0m"
			}
		}
		lines[i] = line
	}
	return lines
}
