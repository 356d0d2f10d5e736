package sources

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/phases"
)

// Prometheus evaluates an expression on a Prometheus server, at the server's present time.
// The answer is a reading if it is one finite number: a scalar, or a vector of one series.
//
//	nothing, NaN (0/0: no traffic), older than MaxAge        no data
//	±Inf: x/0, which measures nothing                        error
//	several series, a native histogram, a range, a text      error
//	4xx, 5xx, no answer in time, no server                   error
//
// So an unreachable Prometheus neither opens a gate nor fires a trigger by itself.
type Prometheus struct {
	URL   string // of the server, with its path prefix; http or https, without a user
	Query string

	// TokenFile is read at each reading, so that a token may be replaced; TokenEnv
	// names an environment variable. At most one of them; a bearer token, which is
	// sent to URL's host alone.
	TokenFile string
	TokenEnv  string
	// Username and PasswordFile instead of a token.
	Username, PasswordFile string

	CAFile string // PEM certificates to trust in place of the system's

	Timeout time.Duration // of one reading; 0: 10 s
	// MaxAge is how old a sample may be that a selector finds; 0: 1 minute. It is the
	// query's lookback delta: of a range such as [5m] the range itself decides. A
	// Prometheus before 2.44 applies it where the expression is a selector alone, and
	// otherwise uses its configured lookback, by default 5 minutes.
	MaxAge time.Duration
}

// urlSetting names the URL in remedies.
const urlSetting = "prometheus.url"

const (
	defaultTimeout = 10 * time.Second
	defaultMaxAge  = time.Minute
)

// queryRecord is what is recorded of a reading: enough to repeat the query.
type queryRecord struct {
	Query    string   `json:"query"`
	At       float64  `json:"at,omitempty"` // of the answer, seconds since 1970
	Answer   string   `json:"answer,omitempty"`
	Series   int      `json:"series"`
	Warnings []string `json:"warnings,omitempty"`
}

// Read implements judge.Source.
func (p *Prometheus) Read(ctx context.Context) judge.Reading {
	kept := queryRecord{Query: p.Query}
	reading := p.read(ctx, &kept)
	if slices.Sort(kept.Warnings); len(kept.Warnings) > 0 {
		kept.Warnings = slices.Compact(kept.Warnings)
		reading.Detail += "; Prometheus warns: " + oneline.Of(strings.Join(kept.Warnings, "; "))
	}
	reading.Inputs, _ = json.Marshal(kept) // of strings and finite numbers
	return reading
}

func (p *Prometheus) read(ctx context.Context, kept *queryRecord) judge.Reading {
	if strings.TrimSpace(p.Query) == "" {
		return failed("there is no expression")
	}
	transport, err := p.transport()
	if err != nil {
		return failed("%v", err)
	}
	client, err := api.NewClient(api.Config{Address: p.URL, RoundTripper: transport})
	if err != nil {
		return failed("%v", err)
	}
	timeout := cmp.Or(p.Timeout, defaultTimeout)
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ask := func(query string) (model.Value, error) {
		answer, warnings, infos, err := v1.NewAPI(client).Query(asking, query, time.Time{},
			v1.WithTimeout(timeout), v1.WithLookbackDelta(cmp.Or(p.MaxAge, defaultMaxAge)))
		kept.Warnings = append(append(kept.Warnings, warnings...), infos...)
		switch {
		case err != nil && ctx.Err() == nil && asking.Err() != nil:
			f, _ := hint.Row(hint.Prometheus, "timeout")
			return nil, fmt.Errorf("Prometheus at %s did not answer within %s; %s", p.host(), timeout, f.Remedy(urlSetting).Text)
		case err != nil:
			if f, words, ok := transport.failure(err); ok {
				return nil, fmt.Errorf("Prometheus at %s %s: %s; %s", p.host(), f.What, transport.redact(words), f.Remedy(urlSetting).Text)
			}
			return nil, fmt.Errorf("Prometheus at %s: %s", p.host(), transport.redact(reason(err)))
		}
		return answer, nil
	}
	answer, err := ask(p.Query)
	if err != nil {
		return failed("%v", err)
	}
	reading := p.evaluate(answer, kept)
	if reading.Verdict != "" || answer.Type() != model.ValVector {
		return reading
	}
	// An answer has the time of the query. Only timestamp() returns the sample's time, for a
	// selector; for another expression it returns the time of the query again.
	taken, err := ask("timestamp(" + p.Query + "\n)") // the expression may end in a comment
	if err != nil {
		return failed("%v", err)
	}
	if v, ok := taken.(model.Vector); ok && len(v) == 1 {
		return p.number(reading.Value, model.TimeFromUnixNano(int64(float64(v[0].Value)*1e9)), kept)
	}
	return reading
}

func (p *Prometheus) evaluate(answer model.Value, kept *queryRecord) judge.Reading {
	switch v := answer.(type) {
	case *model.Scalar:
		kept.Series = 1
		return p.number(float64(v.Value), v.Timestamp, kept)
	case model.Vector:
		kept.Series = len(v)
		switch {
		case len(v) == 0:
			return noData("no series matches, or none has a sample of the last %s", cmp.Or(p.MaxAge, defaultMaxAge))
		case len(v) > 1:
			return failed("the expression gives %d series, not one; aggregate them: sum(%s), or max(...)", len(v), oneline.Of(p.Query))
		case v[0].Histogram != nil:
			return failed("the expression gives a native histogram; take a number of it: histogram_quantile(0.99, ...)")
		}
		return p.number(float64(v[0].Value), v[0].Timestamp, kept)
	case nil:
		return failed("Prometheus gave no answer")
	default:
		return failed("the expression gives a %s, not one number; a range needs a function: max_over_time(...), rate(...)", answer.Type())
	}
}

func (p *Prometheus) number(value float64, at model.Time, kept *queryRecord) judge.Reading {
	kept.At, kept.Answer = float64(at)/1000, model.SampleValue(value).String()
	age, limit := time.Since(at.Time()), cmp.Or(p.MaxAge, defaultMaxAge)
	switch {
	case age > limit: // a cache in between may return an old answer
		return noData("the answer is %s old, and %s is the limit; or the clocks of this machine and the server differ", age.Round(time.Second), limit)
	case math.IsNaN(value):
		return noData("the answer is NaN: zero divided by zero, so there is no traffic")
	case math.IsInf(value, 0):
		return failed("the answer is %s: a number divided by zero, which measures nothing; require traffic in the expression: ... and on() (... > 0)", kept.Answer)
	}
	return judge.Reading{Value: value, Detail: fmt.Sprintf("%s is %s", oneline.Of(p.Query), kept.Answer)}
}

// reason is the server's or the connection's error, with a status if there is one.
func reason(err error) string {
	var apiErr *v1.Error
	if !errors.As(err, &apiErr) {
		return err.Error()
	}
	if apiErr.Detail == "" || apiErr.Type == v1.ErrBadData {
		return fmt.Sprintf("%s: %s", apiErr.Type, apiErr.Msg)
	}
	return fmt.Sprintf("%s: %s: %s", apiErr.Type, apiErr.Msg, apiErr.Detail)
}

func failed(format string, args ...any) judge.Reading {
	return judge.Reading{Verdict: phases.Error, Detail: fmt.Sprintf(format, args...)}
}

func noData(format string, args ...any) judge.Reading {
	return judge.Reading{Verdict: phases.NoData, Detail: fmt.Sprintf(format, args...)}
}
