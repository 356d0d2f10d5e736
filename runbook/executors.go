package runbook

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/procgroup"
	"github.com/stranglerfig/migrator/internal/sleep"
)

// Row is one row of an SQL result: column names and values as text.
type Row struct {
	Columns []string
	Values  []string
	Null    []bool
}

// SQL runs statements on connections.
type SQL interface {
	// Run sends the text to the connection and returns the rows of the last statement that has
	// any. Where the server supports it, it cancels the statement after timeout.
	Run(ctx context.Context, connection, application, text string, timeout time.Duration) ([]Row, error)
	// Busy reports whether a session with that application name still runs a statement.
	Busy(ctx context.Context, connection, application string) (bool, error)
}

// Executors executes blocks on this machine.
type Executors struct {
	Book   *Runbook
	Run    int64
	Self   string   // this program, for blocks in migrator
	Env    []string // the complete environment of started programs
	Dir    string   // their working directory; "": the current one
	SQL    SQL
	PromQL func(ctx context.Context, query string) (float64, error) // nil: there is no Prometheus
	Redact *Redactor
	Mark   string // path of the lock file that shows whether started programs still run; see procgroup.Mark

	mark *os.File
}

var _ Executor = (*Executors)(nil)

// Clean returns the text without secrets.
func (t *Executors) Clean(text string) string { return t.Redact.Text(text) }

// Close releases the mark.
func (t *Executors) Close() error {
	if t.mark == nil {
		return nil
	}
	return t.mark.Close()
}

// Do implements Executor.
func (t *Executors) Do(ctx context.Context, s *Step, line func(string)) (Detail, error) {
	switch s.Language {
	case "sh", "bash", "migrator":
		return t.program(ctx, s, line)
	case "sql":
		return t.sql(ctx, s)
	case "promql":
		return t.promQL(ctx, s)
	case "http":
		return t.http(ctx, s)
	case "dns":
		return t.dns(ctx, s, line)
	}
	return Detail{}, errorf("a block in %s can't be run", s.Language)
}

// application names the sessions of a step's statements, 63 characters at most.
func (t *Executors) application(s *Step) string { return fmt.Sprintf("runbook %d %s", t.Run, s.ID) }

func (t *Executors) sql(ctx context.Context, s *Step) (Detail, error) {
	rows, err := t.SQL.Run(ctx, s.On, t.application(s), s.Body, time.Duration(s.Timeout))
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Output: t.Redact.Text(formatRows(rows))}
	if s.Kind.changes() {
		return d, nil
	}
	return d, checkRows(s, rows)
}

// checkRows checks whether the rows meet the step's condition.
func checkRows(s *Step, rows []Row) error {
	if s.Expect == "" {
		switch {
		case len(rows) == 0 || len(rows[0].Values) == 0:
			return &NotMetError{"the answer has no row"}
		case rows[0].Null[0] || rows[0].Values[0] != "t" && rows[0].Values[0] != "true":
			return &NotMetError{fmt.Sprintf("the answer is %s, not true", shown(rows[0], 0))}
		}
		return nil
	}
	want, err := expected(s.Expect)
	if err != nil {
		return err
	}
	for _, row := range rows {
		matched := 0
		for i, column := range row.Columns {
			if text, ok := want[column]; ok && !row.Null[i] && row.Values[i] == text {
				matched++
			}
		}
		if matched == len(want) {
			return nil
		}
	}
	return &NotMetError{fmt.Sprintf("none of %d rows has %s", len(rows), s.Expect)}
}

func shown(row Row, i int) string {
	if row.Null[i] {
		return "NULL"
	}
	return row.Values[i]
}

// formatRows formats up to 20 rows for people.
func formatRows(rows []Row) string {
	var b strings.Builder
	for n, row := range rows {
		if n == 0 {
			fmt.Fprintln(&b, strings.Join(row.Columns, " | "))
		}
		if n == 20 {
			fmt.Fprintf(&b, "... %d more rows\n", len(rows)-n)
			break
		}
		cells := make([]string, len(row.Values))
		for i := range row.Values {
			cells[i] = printable(shown(row, i))
		}
		fmt.Fprintln(&b, strings.Join(cells, " | "))
	}
	return b.String()
}

func (t *Executors) promQL(ctx context.Context, s *Step) (Detail, error) {
	if t.PromQL == nil {
		return Detail{}, errorf("the migration file names no Prometheus (prometheus.url)")
	}
	v, err := t.PromQL(ctx, s.Body)
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Output: fmt.Sprintf("%g\n", v)}
	switch {
	case s.Above != nil && v <= *s.Above:
		return d, &NotMetError{fmt.Sprintf("the answer is %g, not above %g", v, *s.Above)}
	case s.Below != nil && v >= *s.Below:
		return d, &NotMetError{fmt.Sprintf("the answer is %g, not below %g", v, *s.Below)}
	}
	return d, nil
}

func (t *Executors) http(ctx context.Context, s *Step) (Detail, error) {
	asked, err := request(s.Body)
	if err != nil {
		return Detail{}, err
	}
	r, err := http.NewRequestWithContext(ctx, asked.method, asked.url, strings.NewReader(asked.body))
	if err != nil {
		return Detail{}, err
	}
	for _, h := range asked.headers {
		r.Header.Set(h[0], h[1])
	}
	token, err := t.token(s)
	if err != nil {
		return Detail{}, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	// A redirect counts as the answer and is not followed: the token is for this host alone.
	client := http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(r)
	if err != nil {
		return Detail{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	body := make([]byte, keptHead)
	n, _ := readFull(answer.Body, body)
	text := t.Redact.Text(strings.ToValidUTF8(string(body[:n]), "\uFFFD"))
	if token != "" {
		text = strings.ReplaceAll(text, token, hidden)
	}
	d := Detail{Output: answer.Status + "\n" + printableLines(text)}
	if good := answer.StatusCode == s.Status || s.Status == 0 && answer.StatusCode >= 200 && answer.StatusCode < 300; !good {
		return d, &NotMetError{"the answer is " + answer.Status}
	}
	return d, nil
}

func (t *Executors) token(s *Step) (string, error) {
	switch {
	case s.TokenEnv != "":
		v := os.Getenv(s.TokenEnv)
		if v == "" {
			return "", errorf("the environment variable %s for the token is not set", s.TokenEnv)
		}
		return v, nil
	case s.TokenFile != "":
		return infile.Text(t.Book.beside(s.TokenFile))
	}
	return "", nil
}

// AwaitStopped implements Executor.
func (t *Executors) AwaitStopped(ctx context.Context, s *Step) error {
	within, cancel := context.WithTimeout(ctx, time.Duration(s.Timeout))
	defer cancel()
	for {
		err := t.stopped(within, s)
		if err == nil {
			return nil
		}
		if sleep.For(within, 200*time.Millisecond) != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &StillRunningError{fmt.Sprintf("step %s still runs although the process that started it has ended: %s", s.ID, err)}
		}
	}
}

func (t *Executors) stopped(ctx context.Context, s *Step) error {
	switch s.Language {
	case "sql":
		busy, err := t.SQL.Busy(ctx, s.On, t.application(s))
		if err == nil && busy {
			err = errorf("pg_stat_activity shows its session as %q", t.application(s))
		}
		return err
	case "sh", "bash", "migrator":
		return t.lockMark()
	}
	return nil
}

// lockMark locks the mark, once.
func (t *Executors) lockMark() error {
	if t.mark != nil || t.Mark == "" {
		return nil
	}
	f, err := procgroup.Mark(t.Mark)
	if err != nil {
		return fmt.Errorf("%w (%s is locked; fuser names it)", err, t.Mark)
	}
	t.mark = f
	return nil
}
