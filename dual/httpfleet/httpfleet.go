package httpfleet

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/leasewire"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Options are how daemons are reached.
type Options struct {
	// URLs are the roots of daemons that serve the HTTP API, such as https://migrator.internal.example:7070. The first
	// one that answers is used until it fails. Without TLS they must be on loopback, unless PlainHTTP is set.
	URLs []string
	// Token is one of migrator token create. TokenFile has it in a file, which is read again when it changes: a token is
	// replaced while the application runs. Want one of them.
	Token     string
	TokenFile string
	// CAFile has the authorities, in PEM, by which the daemons' certificates are trusted; "": the system's. It is read by New.
	CAFile string
	// TLS is for what CAFile does not say: a certificate of the application's own, for daemons that ask for one.
	TLS *tls.Config
	// PlainHTTP allows http:// off loopback, for networks that encrypt by themselves: the token is sent with each request.
	PlainHTTP bool
	// Client sends the requests, in place of one that is made of CAFile and TLS. It must set no time of its own: event streams last.
	Client *http.Client

	Lease time.Duration // how long a lease lasts without renewal, 5 minutes at most; 0: the migration file's, else 15 s
	Renew time.Duration // how often it is renewed; 0: the migration file's, else 5 s
}

// Fleet is an application's connection to the state of one migration. It is safe for concurrent use.
type Fleet struct {
	migration string
	options   Options
	client    *http.Client
	owned     bool
	token     token
	at        atomic.Int64           // of the URLs: the one that answered last
	instance  atomic.Pointer[string] // that joined last
}

var (
	_ dual.Fleet             = (*Fleet)(nil)
	_ dual.FaultSwitch       = (*Fleet)(nil)
	_ dual.Notifier          = (*Fleet)(nil)
	_ dual.EmergencyRollback = (*Fleet)(nil)
	_ dual.ReturnJournal     = (*Fleet)(nil)
	_ dual.JournalReader     = (*Fleet)(nil)
	_ dual.StateLossReporter = (*Fleet)(nil)
	_ dual.ColumnsReader     = (*Fleet)(nil)
	_ dual.Observer          = (*Fleet)(nil)
)

// New returns a Fleet of a migration. It does not connect: an application can start while no daemon runs, and joins when
// one does.
func New(migration string, o Options) (*Fleet, error) {
	if migration == "" {
		return nil, errors.New("httpfleet: the migration has no name")
	}
	if len(o.URLs) == 0 {
		return nil, errors.New("httpfleet: Options.URLs is empty: want the address of a daemon")
	}
	for i, given := range o.URLs {
		u, err := url.Parse(given)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("httpfleet: Options.URLs[%d] can't be used: want the root of a daemon, such as https://migrator.internal.example:7070", i)
		}
		if u.Scheme == "http" && !o.PlainHTTP && !loopback(u.Hostname()) {
			return nil, hint.Errorf(hint.Hint{Text: "https://, or Options.PlainHTTP in a network that encrypts by itself"},
				"httpfleet: Options.URLs[%d] is http:// off loopback: the token would be sent in clear text", i)
		}
	}
	if (o.Token == "") == (o.TokenFile == "") {
		return nil, errors.New("httpfleet: want one of Options.Token and Options.TokenFile")
	}
	trust, err := o.trust()
	if err != nil {
		return nil, err
	}
	if o.Lease < 0 || o.Lease > phases.LongestLease {
		return nil, fmt.Errorf("httpfleet: the option Lease is %s: want %s at most: until it ends, an instance that was killed keeps the fleet from settling", o.Lease, phases.LongestLease)
	}
	f := &Fleet{migration: migration, options: o, client: o.Client, token: token{text: o.Token, path: o.TokenFile}}
	if f.client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig, transport.MaxIdleConnsPerHost = trust, 8
		f.owned = true
		f.client = &http.Client{
			Transport: transport,
			// A redirect would send the token to another server.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return f, nil
}

// trust is Options.TLS with the authorities of CAFile; nil: the system's.
func (o Options) trust() (*tls.Config, error) {
	switch {
	case o.Client != nil && (o.TLS != nil || o.CAFile != ""):
		return nil, errors.New("httpfleet: Options.Client has its own trust: want it without Options.TLS and Options.CAFile")
	case o.CAFile == "":
		return o.TLS, nil
	case o.TLS != nil && o.TLS.RootCAs != nil:
		return nil, errors.New("httpfleet: Options.CAFile and Options.TLS.RootCAs are given: want one")
	}
	text, err := infile.Read(o.CAFile, infile.Middle)
	if err != nil {
		return nil, fmt.Errorf("httpfleet: Options.CAFile: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		c = o.TLS.Clone()
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("httpfleet: Options.CAFile: %s has no certificate in PEM", o.CAFile)
	}
	return c, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// Close closes the connections that are not in use, of a Fleet without Options.Client.
func (f *Fleet) Close() {
	if f.owned {
		f.client.CloseIdleConnections()
	}
}

// String names the fleet.
func (f *Fleet) String() string { return "fleet of " + f.migration }

func (f *Fleet) times() (leaseMS, renewMS int64) {
	return f.options.Lease.Milliseconds(), f.options.Renew.Milliseconds()
}

// Join implements dual.Fleet. The request names the lease, so that one that arrives twice takes one lease.
func (f *Fleet) Join(ctx context.Context, identity dual.Identity) (dual.Grant, error) {
	if identity.Instance == "" {
		identity.Instance = generatedName()
	}
	q := leasewire.JoinRequest{
		Instance: identity.Instance, About: identity.About, Moves: identity.Moves, Previous: identity.Previous,
	}
	q.LeaseMS, q.RenewMS = f.times()
	for {
		q.Lease = rand.Text()
		var g leasewire.Grant
		err := f.do(ctx, http.MethodPost, "/leases", q, &g)
		if errors.Is(err, dual.ErrLeaseLost) && ctx.Err() == nil {
			// A request that was delivered before took the lease, and its answer was lost for as long as the lease lasted.
			// No operation ran under it.
			q.Previous = q.Lease
			continue
		}
		if err != nil {
			return dual.Grant{}, err
		}
		f.instance.Store(&g.Instance)
		return g.Dual(), nil
	}
}

func generatedName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// Renew implements dual.Fleet.
func (f *Fleet) Renew(ctx context.Context, lease string, acknowledged int64) (dual.Grant, error) {
	q := leasewire.RenewRequest{Acknowledged: acknowledged}
	q.LeaseMS, q.RenewMS = f.times()
	var g leasewire.Grant
	if err := f.do(ctx, http.MethodPost, "/leases/"+url.PathEscape(lease)+"/renew", q, &g); err != nil {
		return dual.Grant{}, err
	}
	return g.Dual(), nil
}

// Leave implements dual.Fleet.
func (f *Fleet) Leave(ctx context.Context, lease string) error {
	return f.do(ctx, http.MethodDelete, "/leases/"+url.PathEscape(lease), nil, nil)
}

// Most of one request.
const (
	mostWindows = 50
	mostKeys    = 5000
)

// Observe implements dual.Observer.
func (f *Fleet) Observe(ctx context.Context, lease string, windows []telemetry.Window) error {
	return inParts(windows, mostWindows, func(part []telemetry.Window) error {
		return f.do(ctx, http.MethodPost, "/leases/"+url.PathEscape(lease)+"/windows", leasewire.WindowsRequest{Windows: leasewire.WindowsOf(part)}, nil)
	})
}

// inParts sends at most this many at once, and fewer where a request is too long.
func inParts[T any](all []T, most int, send func([]T) error) error {
	for {
		part := all[:min(most, len(all))]
		err := send(part)
		if code(err) == codeTooLarge && len(part) > 1 {
			most = (len(part) + 1) / 2
			continue
		}
		if all = all[len(part):]; err != nil || len(all) == 0 {
			return err
		}
	}
}

// Journal implements dual.Fleet.
func (f *Fleet) Journal(ctx context.Context, entries []dual.JournalEntry) (dual.JournalResult, error) {
	var sum dual.JournalResult
	err := inParts(entries, mostKeys, func(part []dual.JournalEntry) error {
		var r leasewire.JournalResult
		if err := f.do(ctx, http.MethodPost, "/journal", leasewire.JournalRequest{Entries: leasewire.EntriesOf(part)}, &r); err != nil {
			return err
		}
		// What one part says of readers is so for the write.
		sum = dual.JournalResult{Route: r.Route, TargetRead: sum.TargetRead || r.TargetRead, Fenced: sum.Fenced || r.Fenced}
		return nil
	})
	if err != nil {
		return dual.JournalResult{}, err
	}
	return sum, nil
}

// HasJournaled implements dual.JournalReader.
func (f *Fleet) HasJournaled(ctx context.Context, key record.Key) (bool, error) {
	text, err := leasewire.Key(key).MarshalText()
	if err != nil {
		return false, err
	}
	var r leasewire.Journaled
	err = f.do(ctx, http.MethodGet, "/journal/"+leasewire.PathKey(string(text)), nil, &r)
	return r.Journaled, err
}

// Captured implements dual.CaptureReader.
func (f *Fleet) Captured(ctx context.Context) (dual.Captured, error) {
	var r leasewire.Captured
	err := f.do(ctx, http.MethodGet, "/captured", nil, &r)
	if code(err) == codeNoEndpoint { // an older daemon: it has no answer
		return dual.Captured{}, nil
	}
	return dual.Captured(r), err
}

// Return implements dual.ReturnJournal.
func (f *Fleet) Return(ctx context.Context, epoch int64, keys []record.Key) error {
	return inParts(keys, mostKeys, func(part []record.Key) error {
		return f.do(ctx, http.MethodPost, "/return", leasewire.ReturnRequest{Epoch: epoch, Keys: leasewire.KeysOf(part)}, nil)
	})
}

// RollBack implements dual.EmergencyRollback.
func (f *Fleet) RollBack(ctx context.Context, epoch int64, reason string) error {
	return f.do(ctx, http.MethodPost, "/rollback", leasewire.RollbackRequest{Epoch: epoch, Reason: reason}, nil)
}

// TargetRead implements dual.EmergencyRollback.
func (f *Fleet) TargetRead(ctx context.Context) (bool, error) {
	var r leasewire.Routes
	err := f.do(ctx, http.MethodGet, "/routes", nil, &r)
	return r.TargetRead, err
}

// ReportStateLoss implements dual.StateLossReporter.
func (f *Fleet) ReportStateLoss(ctx context.Context, pinned phases.Route) error {
	name := "unknown"
	if i := f.instance.Load(); i != nil {
		name = *i
	}
	return f.do(ctx, http.MethodPost, "/state-loss", leasewire.StateLossRequest{Instance: name, Route: pinned}, nil)
}

// Fault implements dual.FaultSwitch.
func (f *Fleet) Fault(ctx context.Context, lease string, report dual.FaultReport) (dual.Fault, error) {
	var d leasewire.Fault
	err := f.do(ctx, http.MethodPost, "/leases/"+url.PathEscape(lease)+"/fault", leasewire.FaultRequest{
		ID: report.ID, Executed: report.Executed, FirstAgeMS: max(report.FirstAge, 0).Milliseconds(), Over: report.Over,
	}, &d)
	if err != nil {
		return dual.Fault{}, err
	}
	return d.Dual(), nil
}

// AppliedFile is the migration file that is applied, as JSON without URLs.
func (f *Fleet) AppliedFile(ctx context.Context) ([]byte, error) {
	var d leasewire.Applied
	err := f.do(ctx, http.MethodGet, "/applied", nil, &d)
	return d.File, err
}

// Columns implements dual.ColumnsReader.
func (f *Fleet) Columns(ctx context.Context) (applied, former *record.Schema, err error) {
	var d leasewire.Applied
	if err := f.do(ctx, http.MethodGet, "/applied", nil, &d); err != nil {
		return nil, nil, err
	}
	read := func(text json.RawMessage) (*record.Schema, error) {
		if len(text) == 0 {
			return nil, nil //nolint:nilnil // there are none
		}
		s := new(record.Schema)
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("the migration's columns: %w", err)
		}
		return s, nil
	}
	if applied, err = read(d.Columns); err != nil {
		return nil, nil, err
	}
	former, err = read(d.Former)
	return applied, former, err
}
