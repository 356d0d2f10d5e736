package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
)

// walSender is a physical standby that is connected, as its primary sees it.
type walSender struct {
	name     string // application_name
	slot     string // "" for none
	streams  bool
	hidden   bool // the role may not see its position
	reported bool // it reports what it has on disk
	has      bool // the position that was asked for
}

// walSlot is a physical replication slot.
type walSlot struct {
	name   string
	active bool
	has    bool // its standby has reported the position that was asked for
}

// replication is what the server knows of its standbys.
type replication struct {
	senders []walSender
	slots   []walSlot
	sync    string // synchronous_standby_names
}

// replicated reads which standbys have the log up to the position, on their disks.
func (l *Legacy) replicated(ctx context.Context, position string) (r replication, err error) {
	if err := l.pool.QueryRow(ctx, "SELECT current_setting('synchronous_standby_names')").Scan(&r.sync); err != nil {
		return r, err
	}
	rows, err := l.pool.Query(ctx, `
		SELECT coalesce(r.application_name, ''), coalesce(s.slot_name::text, ''), coalesce(r.state IN ('streaming', 'catchup'), false), r.state IS NULL,
		       r.flush_lsn IS NOT NULL, coalesce(r.flush_lsn >= $1::text::pg_lsn, false)
		FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
		WHERE s.slot_type IS DISTINCT FROM 'logical' AND r.state IS DISTINCT FROM 'backup'
		ORDER BY r.application_name, r.pid`, position)
	if err != nil {
		return r, err
	}
	r.senders, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s walSender, err error) {
		err = row.Scan(&s.name, &s.slot, &s.streams, &s.hidden, &s.reported, &s.has)
		return s, err
	})
	if err != nil {
		return r, err
	}
	// The restart position of a physical slot is what its standby has reported as flushed.
	rows, err = l.pool.Query(ctx, `SELECT slot_name::text, active, coalesce(restart_lsn >= $1::text::pg_lsn, false)
		FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary ORDER BY slot_name`, position)
	if err != nil {
		return r, err
	}
	r.slots, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s walSlot, err error) {
		err = row.Scan(&s.name, &s.active, &s.has)
		return s, err
	})
	return r, err
}

// standby is one that the fence waits for.
type standby struct {
	name   string
	why    string // what makes it an expected one; "": it is not, but it streams
	remedy string // besides starting it
	state  standbyState
}

type standbyState int

// notYetWritten is a position that no standby has: asked for it, those that are there are behind.
const notYetWritten = "FFFFFFFF/FFFFFFFF"

const (
	standbyHas    standbyState = iota // it has the log up to the position
	standbyBehind                     // it streams, and will have it
	standbyHidden                     // it is connected, and the role may not see its position
	standbyAway
)

// standbys are those that the fence waits for. named are those of legacy.standbys, by
// application_name or slot; nil: the setting is absent, and each physical slot and each name in
// synchronous_standby_names is an expected one. Then what streams besides is waited for too.
func (r replication) standbys(named []string) []standby {
	if named != nil {
		var all []standby
		for _, name := range named {
			all = append(all, standby{
				name: name, why: "legacy.standbys", remedy: "take it out of legacy.standbys if it is gone for good",
				state: r.state(func(s walSender) bool { return s.name == name || s.slot == name }, name),
			})
		}
		return all
	}
	all := r.bySlot()
	isSlot := func(name string) bool {
		return slices.ContainsFunc(r.slots, func(s walSlot) bool { return s.name == name })
	}
	names, least := syncNames(r.sync)
	for _, name := range names {
		if isSlot(name) {
			continue
		}
		all = append(all, standby{
			name: name, why: "synchronous_standby_names", remedy: "take it out of synchronous_standby_names if it is gone for good",
			state: r.state(func(s walSender) bool { return strings.EqualFold(s.name, name) }, ""),
		})
	}
	if missing := least - r.streaming(); missing > 0 {
		all = append(all, standby{
			name: strconv.Itoa(missing) + " of any name", why: "synchronous_standby_names", remedy: "lower the number in synchronous_standby_names", state: standbyAway,
		})
	}
	for _, s := range r.senders {
		named := slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(s.name, name) })
		if !isSlot(s.slot) && !named && s.streams && s.reported {
			all = append(all, standby{name: s.name, state: s.state()})
		}
	}
	return all
}

func (r replication) bySlot() (all []standby) {
	for _, slot := range r.slots {
		all = append(all, standby{
			name: slot.name, why: "its replication slot", state: slot.state(),
			remedy: "drop its slot if it is gone for good: SELECT pg_drop_replication_slot(" + literal(slot.name) + ")",
		})
	}
	return all
}

func (s walSlot) state() standbyState {
	switch {
	case s.has:
		return standbyHas
	case s.active:
		return standbyBehind
	default:
		return standbyAway
	}
}

// state of the standby that is, or whose connections are, the given ones; slot is its slot's name,
// if it may have one.
func (r replication) state(its func(walSender) bool, slot string) standbyState {
	if i := slices.IndexFunc(r.slots, func(s walSlot) bool { return s.name == slot }); i >= 0 && r.slots[i].state() != standbyAway {
		return r.slots[i].state()
	}
	found, worst := false, standbyHas
	for _, s := range r.senders {
		if its(s) {
			found, worst = true, max(worst, s.state())
		}
	}
	if !found {
		return standbyAway
	}
	return worst
}

func (s walSender) state() standbyState {
	switch {
	case s.has:
		return standbyHas
	case s.hidden:
		return standbyHidden
	default:
		return standbyBehind
	}
}

func (r replication) streaming() (n int) {
	for _, s := range r.senders {
		if s.streams || s.hidden {
			n++
		}
	}
	return n
}

// syncNames reads synchronous_standby_names: the names, and how many standbys must be there where
// any name will do.
func syncNames(setting string) (names []string, least int) {
	list, count := setting, 1
	if before, inside, ok := strings.Cut(setting, "("); ok {
		list = strings.TrimSuffix(strings.TrimSpace(inside), ")")
		words := strings.Fields(before) // FIRST 2, ANY 2, 2
		if len(words) > 0 {
			count, _ = strconv.Atoi(words[len(words)-1])
		}
	}
	for list != "" {
		list = strings.TrimLeft(list, " \t\n\r\f,")
		name := ""
		if strings.HasPrefix(list, `"`) {
			name, list = quotedName(list[1:])
		} else {
			end := strings.IndexAny(list+",", ", \t\n\r\f")
			if name, list = list[:end], list[end:]; name == "*" {
				least, name = count, ""
			}
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, least
}

// quotedName reads a name up to its closing quote; doubled quotes are part of it.
func quotedName(s string) (name, rest string) {
	for {
		part, after, ok := strings.Cut(s, `"`)
		name += part
		if !ok || !strings.HasPrefix(after, `"`) {
			return name, after
		}
		name, s = name+`"`, after[1:]
	}
}

// refuseAway returns an error if a standby that is expected is not there: it could not be waited
// for, and would take writes if it were promoted later.
func (l *Legacy) refuseAway(ctx context.Context) error {
	r, err := l.replicated(ctx, notYetWritten)
	if err != nil {
		return err
	}
	for _, s := range r.standbys(l.standbys) {
		if s.why == "" {
			continue
		}
		switch s.state {
		case standbyAway:
			return hint.Errorf(hint.Hint{Text: s.absent()}, "standby %q is expected (%s) and does not stream: without the fence it would take writes once it is promoted", s.name, s.why)
		case standbyHidden:
			return hint.Errorf(hint.Hint{Text: "GRANT pg_read_all_stats TO " + currentUser(ctx, l.pool)}, "the position of standby %q, which is expected (%s), is hidden from this role: the fence could not be waited for there", s.name, s.why)
		}
	}
	return nil
}

func (s standby) absent() string {
	return "start it; or " + s.remedy + "; or name the standbys that may be promoted under legacy.standbys in the migration file ([] for none)"
}

// awaitStandbys waits until every standby that is there has flushed the log up to the current
// position. With expected, it also waits for those that are expected and away. It does not wait
// for others whose positions the role may not see; Check warns of them.
func (l *Legacy) awaitStandbys(ctx context.Context, timeout time.Duration, expected bool) error {
	var position string
	if err := l.pool.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&position); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("timed out"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var behind []string
	for {
		r, err := l.replicated(ctx, position)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			behind = nil
			for _, s := range r.standbys(l.standbys) {
				if s.state == standbyBehind || expected && s.state != standbyHas {
					behind = append(behind, strconv.Quote(s.name))
				}
			}
			if len(behind) == 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return hint.Errorf(hint.Hint{Text: "wait until the standby has caught up, or disconnect it"},
				"a standby has not stored it yet (%s): %w", strings.Join(behind, ", "), context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// checkStandbys reports what the fence waits for.
func (l *Legacy) checkStandbys(ctx context.Context, f *findings) error {
	r, err := l.replicated(ctx, notYetWritten)
	if err != nil {
		return err
	}
	hidden := 0
	var there []string
	for _, s := range r.senders {
		if s.hidden {
			hidden++
		}
		if l.standbys != nil && s.streams && !slices.Contains(l.standbys, s.name) && !slices.Contains(l.standbys, s.slot) {
			f.warn("legacy-standbys", "add it to legacy.standbys if it may be promoted", "standby %q streams and is not in legacy.standbys: the fence does not wait for it", s.name)
		}
	}
	for _, s := range r.standbys(l.standbys) {
		switch {
		case s.state == standbyAway:
			f.warn("legacy-standbys", s.absent(), "standby %q is expected (%s) and does not stream: the fence would be refused", s.name, s.why)
		case s.state != standbyHidden:
			there = append(there, strconv.Quote(s.name))
		}
	}
	if hidden > 0 {
		f.warn("legacy-standbys", "GRANT pg_read_all_stats TO "+currentUser(ctx, l.pool), "the positions of %d standbys are hidden from this role: the fence could not be waited for there", hidden)
	}
	if len(there) > 0 {
		f.good("legacy-standbys", "the fence waits for %s", strings.Join(there, ", "))
	}
	return nil
}

// errStandbys describes a fence that is raised on this server, and not known to be on its standbys.
func errStandbys(err error) error {
	return fmt.Errorf("the fence is raised, but %w", err)
}
