package runbook

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/phases"
)

// TTL is how long resolvers may cache a name's addresses.
type TTL struct {
	Host          string
	TTL           time.Duration
	Addresses     []string
	Authoritative bool // else it is what remains in one resolver's cache; other resolvers may cache it for longer
}

// LookupTTL asks a server, "" for the system's first, for the time to live of a name's
// addresses. If that server answers from its cache, it asks the zone's name servers.
func LookupTTL(ctx context.Context, server, host string) (TTL, error) {
	if server == "" {
		c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil || len(c.Servers) == 0 {
			return TTL{}, errorf("no DNS server: /etc/resolv.conf names none; write server=host:53")
		}
		server = net.JoinHostPort(c.Servers[0], c.Port)
	}
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "53")
	}
	ttl, err := addresses(ctx, server, host)
	if err != nil || ttl.Authoritative {
		return ttl, err
	}
	for _, ns := range nameservers(ctx, server, host) {
		if known, err := addresses(ctx, net.JoinHostPort(ns, "53"), host); err == nil && known.Authoritative {
			return known, nil
		}
	}
	return ttl, nil
}

// addresses takes the shortest time to live of the records between the name and its addresses:
// once that record expires, resolvers look up the whole chain again.
func addresses(ctx context.Context, server, host string) (TTL, error) {
	found := TTL{Host: host}
	var longest uint32
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := exchange(ctx, server, host, kind)
		if err != nil {
			return found, err
		}
		if answer.Rcode != dns.RcodeSuccess {
			return found, errorf("%s: the DNS server %s answers %s", host, server, dns.RcodeToString[answer.Rcode])
		}
		shortest := ^uint32(0)
		for _, rr := range answer.Answer {
			shortest = min(shortest, rr.Header().Ttl)
			switch rr := rr.(type) {
			case *dns.A:
				found.Addresses = append(found.Addresses, rr.A.String())
			case *dns.AAAA:
				found.Addresses = append(found.Addresses, rr.AAAA.String())
			}
		}
		if len(answer.Answer) > 0 {
			longest = max(longest, shortest)
			found.Authoritative = answer.Authoritative
		}
	}
	if len(found.Addresses) == 0 {
		return found, errorf("%s has no address on the DNS server %s", host, server)
	}
	found.TTL = time.Duration(longest) * time.Second
	return found, nil
}

func exchange(ctx context.Context, server, host string, kind uint16) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(host), kind)
	question.SetEdns0(4096, false)
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: 3 * time.Second}
		answer, _, err := client.ExchangeContext(ctx, question, server)
		if err != nil {
			return nil, fmt.Errorf("%s: the DNS server %s: %w", host, server, err)
		}
		if !answer.Truncated {
			return answer, nil
		}
	}
	return nil, errorf("%s: the DNS server %s truncates its answers", host, server)
}

// nameservers returns the addresses of the name servers of the name's zone.
func nameservers(ctx context.Context, server, host string) []string {
	for zone := dns.Fqdn(host); zone != "."; {
		answer, err := exchange(ctx, server, zone, dns.TypeNS)
		if err != nil {
			return nil
		}
		var found []string
		for _, rr := range answer.Answer {
			if ns, ok := rr.(*dns.NS); ok {
				if at, err := addresses(ctx, server, ns.Ns); err == nil {
					found = append(found, at.Addresses...)
				}
			}
		}
		if len(found) > 0 {
			return found
		}
		_, rest, ok := strings.Cut(zone, ".")
		if !ok || rest == "" {
			return nil
		}
		zone = rest
	}
	return nil
}

// dns checks that no name of the block has a time to live above the limit. A .wait block waits
// for the longest time to live.
func (t *Executors) dns(ctx context.Context, s *Step, line func(string)) (Detail, error) {
	var d Detail
	var longest time.Duration
	var over []string
	for _, host := range strings.Fields(s.Body) {
		ttl, err := LookupTTL(ctx, s.Server, host)
		if err != nil {
			return d, err
		}
		text := ttl.String()
		line(text)
		d.Output += text + "\n"
		longest = max(longest, ttl.TTL)
		if limit := time.Duration(s.MaxTTL); limit > 0 && ttl.TTL > limit && s.Kind != Wait {
			over = append(over, fmt.Sprintf("%s has a TTL of %s, above %s", host, phases.Duration(ttl.TTL), s.MaxTTL))
		}
	}
	if len(over) > 0 {
		return d, &NotMetError{strings.Join(over, "; ")}
	}
	if s.Kind == Wait {
		line(fmt.Sprintf("waiting %s", longest))
		if err := sleep.For(ctx, longest); err != nil {
			return d, err
		}
	}
	return d, nil
}

// String formats the TTL on one line.
func (t TTL) String() string {
	slices.Sort(t.Addresses)
	text := fmt.Sprintf("%s is %s, TTL %s", t.Host, strings.Join(t.Addresses, ", "), phases.Duration(t.TTL))
	if !t.Authoritative {
		text += " in one resolver's cache; other resolvers may cache it for longer"
	}
	return text
}
