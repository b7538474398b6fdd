// Package journal keeps audit events: durable before they are acknowledged, in order, each once. New events go to a
// write-ahead log with group commit; a maintainer seals them into Parquet segments, merges small segments, and deletes old
// ones. Detector, sinks and searches read from here and nowhere else.
//
// A journal is a folder that one process holds at a time:
//
//	LOCK                 the process's id, locked
//	MANIFEST             which segments there are
//	wal/*.wal            what is not sealed yet
//	segments/*.parquet   what is
//	cursors/*.json       how far each reader is
//	quarantine/          damaged files, set aside
//
// docs/reference/journal.md specifies all of them.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/journal/wal"
)

// Errors that callers tell apart.
var (
	// ErrFull is wrapped while the journal cannot take more: retry later, nothing is lost.
	ErrFull = errors.New("journal is full")
	// ErrLocked is wrapped when another process holds the folder.
	ErrLocked = errors.New("already in use")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("journal is closed")
)

// Options are a journal's limits. Zero values stand for the defaults of DefaultOptions, but for retention, where zero keeps all.
type Options struct {
	SegmentBytes int64         // raw bytes that make a segment
	SealAfter    time.Duration // the oldest unsealed event waits at most about this long
	WALFileBytes int64         // size at which a new WAL file begins
	HeadCache    int64         // raw bytes of unsealed events kept in memory
	InFlight     int64         // raw bytes of batches being made durable at once
	MaxUnsealed  int64         // raw bytes; above, Append refuses until sealing has caught up
	MaxBytes     int64         // on disk; above, Append refuses; 0: no limit
	MinFree      int64         // bytes of the file system that are left free for sealing
	RetainAge    time.Duration // segments whose newest event came longer ago are deleted; 0: kept
	RetainBytes  int64         // segments are deleted, oldest first, while they are larger together; 0: kept
	DedupEvents  int           // identities kept in memory against duplicates
	MergeBytes   int64         // merged segments grow to about this size on disk
	IDReuse      bool          // mark events whose auditID came before with other content

	Now     func() time.Time
	Log     *slog.Logger
	Metrics *Metrics
}

// DefaultOptions are right for one API server's events on a machine of any size.
func DefaultOptions() Options {
	return Options{
		SegmentBytes: 32 << 20, SealAfter: time.Minute, WALFileBytes: 64 << 20, HeadCache: 64 << 20, InFlight: 32 << 20,
		MaxUnsealed: 4 << 30, MinFree: 256 << 20, DedupEvents: 300_000, MergeBytes: 256 << 20, IDReuse: true,
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	def := func(v *int64, to int64) {
		if *v <= 0 {
			*v = to
		}
	}
	def(&o.SegmentBytes, d.SegmentBytes)
	def(&o.WALFileBytes, d.WALFileBytes)
	def(&o.HeadCache, d.HeadCache)
	def(&o.InFlight, d.InFlight)
	def(&o.MaxUnsealed, d.MaxUnsealed)
	def(&o.MergeBytes, d.MergeBytes)
	if o.SealAfter <= 0 {
		o.SealAfter = d.SealAfter
	}
	if o.DedupEvents <= 0 {
		o.DedupEvents = d.DedupEvents
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(prometheus.NewRegistry(), "journal")
	}
	return o
}

// Journal is an open journal. All methods are safe for concurrent use.
type Journal struct {
	dir   string
	o     Options
	m     *Metrics
	lock  *folderLock
	codec *wal.Codec
	room  *semaphore.Weighted // bytes in flight

	// The committer's own.
	w        *wal.Writer
	queue    chan struct{} // wakes the committer
	seal     chan struct{} // wakes the maintainer
	stop     context.CancelFunc
	wg       sync.WaitGroup
	stopping chan struct{}
	upkeep   sync.Mutex // one seal, merge or retention at a time

	mu         sync.Mutex
	pending    []*pending
	inflight   map[audit.Identity]*pending
	flying     map[[8]byte]int // request keys of those in flight
	recent     *recent
	next       uint64 // sequence number of the next event
	sealed     uint64 // all up to it are in segments
	segments   []*segmentRef
	blocks     []*block
	wFile      *walFile   // the file that w writes
	files      []*walFile // older WAL files that still hold unsealed blocks, and the current one
	unsealed   int64      // raw bytes of blocks
	cached     int64      // raw bytes of blocks with records in memory
	headSince  time.Time  // when the oldest block came
	cursors    map[string]*Cursor
	changed    chan struct{} // closed and replaced at every commit
	sealing    bool
	progress   chan struct{} // closed and replaced when a segment is sealed
	closed     bool
	lost       int64 // events known to be lost, since Open
	fullReason string
	failedAt   time.Time // of the last write, if that failed
}

// segmentRef is one sealed segment. The last to release it closes the file, and deletes it if it was dropped.
type segmentRef struct {
	file *segment.File
	mu   sync.Mutex
	refs int
	drop bool
}

func (s *segmentRef) acquire() {
	s.mu.Lock()
	s.refs++
	s.mu.Unlock()
}

func (s *segmentRef) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs--; s.refs > 0 {
		return nil
	}
	err := s.file.Close()
	if s.drop {
		err = errors.Join(err, segment.Remove(s.file.Path()))
	}
	return err
}

// Open opens the journal in dir, making the folder if it is missing, and repairs what a crash left. Damage is counted, said in
// the log, and set aside; only a folder that cannot be used at all is an error. The caller closes it.
func Open(dir string, o Options) (*Journal, error) {
	o = o.withDefaults()
	for _, d := range []string{"wal", "segments", "cursors", "quarantine"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("cannot open journal: %w", err)
		}
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	codec, err := wal.NewCodec(2)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	j := &Journal{
		dir: dir, o: o, m: o.Metrics, lock: lock, codec: codec, room: semaphore.NewWeighted(o.InFlight),
		queue: make(chan struct{}, 1), seal: make(chan struct{}, 1), stopping: make(chan struct{}),
		inflight: map[audit.Identity]*pending{}, flying: map[[8]byte]int{}, cursors: map[string]*Cursor{}, changed: make(chan struct{}), progress: make(chan struct{}),
	}
	if err := j.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open journal %s: %w", dir, err), j.release())
	}
	ctx, stop := context.WithCancel(context.Background())
	j.stop = stop
	j.wg.Go(j.commit)
	j.wg.Go(func() { j.maintain(ctx) })
	return j, nil
}

// Close waits for what is being appended, makes cursors durable and gives the folder back. Unsealed events stay in the WAL.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	close(j.changed) // readers see that it is closed
	j.changed = make(chan struct{})
	cursors := j.cursors
	j.mu.Unlock()
	close(j.stopping)
	j.stop()
	j.wg.Wait()
	var errs []error
	for _, c := range cursors {
		errs = append(errs, c.Flush())
	}
	return errors.Join(append(errs, j.release())...)
}

func (j *Journal) release() error {
	var errs []error
	if j.w != nil {
		errs = append(errs, j.w.Close())
		if len(j.blocks) == 0 && j.wFile.last <= j.sealed { // nothing in it is needed any more
			errs = append(errs, os.Remove(j.w.Path()))
		}
	}
	for _, f := range j.files {
		f.release()
	}
	for _, s := range j.segments {
		errs = append(errs, s.release())
	}
	j.codec.Close()
	return errors.Join(append(errs, j.lock.Close())...)
}

// Last is the sequence number of the newest durable event, 0 in an empty journal.
func (j *Journal) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next - 1
}

// Snapshot gives a consistent view of all durable events. The caller closes it.
func (j *Journal) Snapshot() (*Snapshot, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	s := &Snapshot{}
	held := j.segments[:len(j.segments):len(j.segments)]
	for _, ref := range held {
		ref.acquire()
		s.Segments = append(s.Segments, ref.file)
	}
	files := map[*walFile]bool{}
	for _, b := range j.blocks {
		if !files[b.file] {
			files[b.file] = true
			b.file.acquire()
		}
		s.Head = append(s.Head, j.view(b))
	}
	s.release = func() {
		for _, ref := range held {
			if err := ref.release(); err != nil {
				j.o.Log.Warn("cannot close segment", "err", err)
			}
		}
		for f := range files {
			f.release()
		}
	}
	return s, nil
}

func (j *Journal) view(b *block) Block {
	if records := b.records; records != nil {
		return Block{First: b.frame.Seq, Last: b.frame.Next() - 1, MinMicros: b.minMicros, MaxMicros: b.maxMicros,
			Load: func() ([]audit.Record, int64, error) { return records, 0, nil }}
	}
	return Block{First: b.frame.Seq, Last: b.frame.Next() - 1, MinMicros: b.minMicros, MaxMicros: b.maxMicros,
		Load: func() ([]audit.Record, int64, error) { return b.load(j.codec) }}
}

// Info is the state of a journal for people and metrics.
type Info struct {
	Dir       string        `json:"dir"`
	Events    int64         `json:"events"`
	RawBytes  int64         `json:"rawBytes"`
	DiskBytes int64         `json:"diskBytes"`
	FirstSeq  uint64        `json:"firstSeq"`
	LastSeq   uint64        `json:"lastSeq"`
	Oldest    int64         `json:"oldestMicros"` // event time
	Newest    int64         `json:"newestMicros"`
	Segments  int           `json:"segments"`
	Unsealed  int64         `json:"unsealedEvents"`
	Lost      int64         `json:"lostEvents"` // to damage, found since the start
	Cursors   []CursorState `json:"cursors"`
	Full      string        `json:"full,omitempty"` // why no events are taken now
}

// CursorState is how far one reader is.
type CursorState struct {
	Name string `json:"name"`
	Next uint64 `json:"next"`
	Lag  int64  `json:"lagEvents"`
}

// Info describes the journal as it is now.
func (j *Journal) Info() Info {
	j.mu.Lock()
	defer j.mu.Unlock()
	in := Info{Dir: j.dir, LastSeq: j.next - 1, FirstSeq: j.next, Segments: len(j.segments), Lost: j.lost, Full: j.fullReason}
	span := func(first uint64, lo, hi int64) {
		in.FirstSeq = min(in.FirstSeq, first)
		if in.Oldest == 0 || lo < in.Oldest {
			in.Oldest = lo
		}
		in.Newest = max(in.Newest, hi)
	}
	for _, s := range j.segments {
		m := s.file.Meta()
		in.Events += m.Rows
		in.RawBytes += m.RawBytes
		in.DiskBytes += m.FileBytes
		span(m.MinSeq, m.MinMicros, m.MaxMicros)
	}
	for _, b := range j.blocks {
		in.Events += int64(b.frame.Count)
		in.Unsealed += int64(b.frame.Count)
		in.RawBytes += b.rawBytes
		span(b.frame.Seq, b.minMicros, b.maxMicros)
	}
	for _, f := range j.files {
		in.DiskBytes += f.size
	}
	for name, c := range j.cursors {
		next := c.Next()
		in.Cursors = append(in.Cursors, CursorState{name, next, int64(j.next) - int64(next)})
	}
	return in
}

// SetLimits changes, while the journal is open, what may change: MaxBytes, MinFree, RetainAge and RetainBytes of o.
func (j *Journal) SetLimits(o Options) {
	j.setLimits(func(to *Options) {
		to.MaxBytes, to.MinFree, to.RetainAge, to.RetainBytes = o.MaxBytes, o.MinFree, o.RetainAge, o.RetainBytes
	})
}

func (j *Journal) setLimits(change func(*Options)) {
	j.mu.Lock()
	change(&j.o)
	j.mu.Unlock()
	j.wake()
}
