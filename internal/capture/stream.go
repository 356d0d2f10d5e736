package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// stream reads the log and cuts it into transactions. Protocol 1 sends a transaction once it is committed, and
// without the subtransactions that were rolled back.
type stream struct {
	legacy *postgres.Legacy
	conn   *pgconn.PgConn
	out    *queue
	beat   chan struct{} // the server asks for an answer
	meter  *meter

	limit int    // of a transaction in memory
	dir   string // for larger ones

	secret    string   // of the migration's markers
	p         Progress // behind the last commit that was read
	decode    decoder
	row       rowChange
	relations map[uint32]*relation // nil: of another table
	open      *transaction         // that is being read
	spare     *transaction         // that was handed over, to be used again
}

// run reads until ctx ends, or the stream does.
func (s *stream) run(ctx context.Context) error {
	defer func() {
		if s.open != nil {
			s.open.close()
		}
	}()
	// Once for all messages: to watch ctx in each costs as much as to read it.
	defer context.AfterFunc(ctx, func() { _ = s.conn.Conn().SetDeadline(time.Unix(1, 0)) })()
	for {
		message, err := s.conn.ReceiveMessage(context.Background())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read legacy's log: %w", err)
		}
		switch message := message.(type) {
		case *pgproto3.CopyData:
			if err := s.message(ctx, message.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("read legacy's log: %w", pgconn.ErrorResponseToPgError(message))
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		case *pgproto3.CopyDone:
			return errors.New("read legacy's log: the server has ended the stream")
		default:
			return fmt.Errorf("read legacy's log: %w (%T)", errWire, message)
		}
	}
}

func (s *stream) message(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return errWire
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		alive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return errors.Join(errWire, err)
		}
		s.meter.server(alive.ServerWALEnd)
		if s.open == nil && s.meter.waiting.Load() == 0 {
			s.meter.idle.Store(uint64(alive.ServerWALEnd))
		}
		if alive.ReplyRequested {
			signal(s.beat)
		}
		return nil
	case pglogrepl.XLogDataByteID:
		log, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil || len(log.WALData) == 0 {
			return errWire
		}
		s.meter.server(log.ServerWALEnd)
		return s.logged(ctx, log.WALData)
	}
	return errWire
}

func (s *stream) logged(ctx context.Context, data []byte) error {
	if kind := data[0]; kind == insertMessage || kind == updateMessage || kind == deleteMessage {
		if s.open == nil {
			return errWire
		}
		if err := s.row.read(kind, data[1:]); err != nil {
			return err
		}
		return s.change()
	}
	switch pglogrepl.MessageType(data[0]) {
	case pglogrepl.MessageTypeOrigin, pglogrepl.MessageTypeType:
		return nil
	}
	switch pglogrepl.MessageType(data[0]) {
	case pglogrepl.MessageTypeBegin:
		commit, at, ok := readBegin(data[1:])
		if !ok || s.open != nil {
			return errWire
		}
		if s.open, s.spare = s.spare, nil; s.open == nil {
			s.open = &transaction{limit: s.limit, dir: s.dir}
		}
		s.open.reset(commit, at)
		return nil
	case pglogrepl.MessageTypeCommit:
		commit, end, at, ok := readCommit(data[1:])
		if !ok || s.open == nil || commit != s.open.commit {
			return errWire
		}
		t := s.open
		s.open = nil
		t.end, t.at = end, at
		return s.commit(ctx, t)
	}
	parsed, err := pglogrepl.Parse(data)
	if err != nil {
		return fmt.Errorf("%w: %w", errWire, err)
	}
	if m, ok := parsed.(*pglogrepl.RelationMessage); ok {
		return s.describe(ctx, m)
	}
	if s.open == nil {
		return errWire
	}
	switch m := parsed.(type) {
	case *pglogrepl.TruncateMessage:
		return s.truncate(ctx, m)
	case *pglogrepl.LogicalDecodingMessage:
		return s.marker(m)
	}
	return errWire
}

// describe takes a description of a table, which the log gives before the first change and whenever it has
// changed.
func (s *stream) describe(ctx context.Context, m *pglogrepl.RelationMessage) error {
	if s.relations == nil {
		s.relations = map[uint32]*relation{}
	}
	_, oid := s.legacy.CaptureTable()
	if m.RelationID != oid {
		parts, err := s.legacy.CapturedParts(ctx)
		if err != nil {
			return err
		}
		ours := false
		for _, p := range parts {
			ours = ours || p.ID == int64(m.RelationID)
		}
		if !ours {
			// Of a publication that was widened, or of a partition that is none any more.
			s.relations[m.RelationID] = nil
			return nil
		}
	}
	now, order, err := attributes(ctx, s.legacy)
	if err != nil {
		return fmt.Errorf("read the columns of legacy's table: %w", err)
	}
	r, err := relationOf(m, s.legacy, now, order)
	if err != nil {
		return err
	}
	s.relations[m.RelationID] = r
	return nil
}

// stands reports whether changes are applied now.
//
// [capture-fenced]: what legacy takes between a fence and its lift are copies of the target's own records, and
// may be older ones. Before the first barrier no era is known; what is older than that barrier the backfill
// brings.
func (s *stream) stands() bool { return s.p.Era != 0 && s.p.Fence == "" }

func (s *stream) change() error {
	r, known := s.relations[s.row.relation]
	if !known {
		return errWire
	}
	if r == nil {
		s.meter.foreign.Add(1)
		return nil
	}
	if !s.stands() {
		s.meter.skipped.Add(1)
		return nil
	}
	var was record.Key
	if s.row.oldKind != 0 {
		old, _, err := s.decode.record(r, s.row.old, nil, 0)
		if err != nil {
			return err
		}
		if was, err = s.legacy.Schema().KeyOf(old); err != nil {
			return fmt.Errorf("read legacy's log: the row before a change: %w", err)
		}
	}
	if s.row.kind == deleteMessage {
		return s.open.add(was, change{deleted: true})
	}
	var before []cell
	if s.row.oldKind != 0 {
		before = s.row.old
	}
	is, unread, err := s.decode.record(r, s.row.row, before, s.row.oldKind)
	if err != nil {
		return err
	}
	key, err := s.legacy.Schema().KeyOf(is)
	if err != nil {
		return fmt.Errorf("read legacy's log: %w", err)
	}
	c := change{record: is, locked: unread}
	if s.row.oldKind != 0 && was != key {
		// What the target has under the new key was another record's.
		c.locked = !c.whole()
		if err := s.open.add(was, change{deleted: true}); err != nil {
			return err
		}
		s.open.changes--
	}
	return s.open.add(key, c)
}

// truncate takes a TRUNCATE. Of a partitioned table the log names the partitions, and not the whole.
func (s *stream) truncate(ctx context.Context, m *pglogrepl.TruncateMessage) error {
	named, ours := map[int64]bool{}, false
	_, oid := s.legacy.CaptureTable()
	for _, id := range m.RelationIDs {
		named[int64(id)] = true
		ours = ours || id == oid || s.relations[id] != nil
	}
	switch {
	case !ours:
		s.meter.foreign.Add(1)
		return nil
	case !s.stands():
		s.meter.skipped.Add(1)
		return nil
	}
	parts, err := s.legacy.CapturedParts(ctx)
	if err != nil {
		return err
	}
	parents, whole := map[int64]bool{}, true
	for _, p := range parts {
		parents[p.Parent] = true
	}
	for _, p := range parts {
		whole = whole && (named[p.ID] || parents[p.ID])
	}
	if whole {
		s.open.truncate()
	} else {
		s.open.partly = true
	}
	return nil
}

func (s *stream) marker(m *pglogrepl.LogicalDecodingMessage) error {
	if !m.Transactional || m.Prefix != s.legacy.MarkerPrefix() {
		return nil
	}
	var mark postgres.Marker
	if err := json.Unmarshal(m.Content, &mark); err != nil {
		s.meter.foreign.Add(1)
		return nil
	}
	if mark.Proof != s.secret {
		s.meter.foreign.Add(1) // another program's: every role may write messages
		return nil
	}
	s.open.markers = append(s.open.markers, mark)
	return nil
}

// commit hands a transaction over.
//
// [capture-version]: its version is where its commit record begins, in the era of the last marker before it.
func (s *stream) commit(ctx context.Context, t *transaction) error {
	at := record.MakeVersion(s.p.Era, s.p.Timeline, uint64(t.commit))
	s.p.Resume, s.p.Commit, s.p.Changes = t.end, t.at, s.p.Changes+t.changes
	for _, mark := range t.markers {
		switch mark.Kind {
		case postgres.MarkBarrier:
			s.p.Era, s.p.Barrier = mark.Era, mark.Version
		case postgres.MarkFence:
			s.p.Era, s.p.Fence = mark.Era, mark.Attempt
		case postgres.MarkLift:
			s.p.Era, s.p.Fence = mark.Era, ""
		case postgres.MarkEra:
			s.p.Era = mark.Era
		}
	}
	s.meter.read(t)
	if err := s.out.put(ctx, t, at, s.p); err != nil {
		t.close()
		return err
	}
	if !t.heavy() {
		s.spare = t // the queue has copied its states
	}
	return nil
}

// answer tells the server, from a goroutine of its own, how far the target has the changes: while a long apply
// keeps the reader from reading, the server would end the connection after its wal_sender_timeout.
func answer(ctx context.Context, conn *pgconn.PgConn, every time.Duration, now <-chan struct{}, saved func() pglogrepl.LSN) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		at := saved()
		if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: at}); err != nil {
			return fmt.Errorf("answer legacy's server: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-now:
		}
	}
}
