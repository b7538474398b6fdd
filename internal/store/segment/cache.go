package segmentstore

import (
	"container/list"
	"sync"
)

// pageKey names a page of raw events: a segment's path is used for one content only.
type pageKey struct {
	path  string
	group uint64 // its lowest sequence number
	page  int
}

// cache keeps the pages of raw events used last, up to a number of bytes.
type cache struct {
	limit int64

	mu    sync.Mutex
	used  int64
	order *list.List // of *cached, used last first
	pages map[pageKey]*list.Element
}

type cached struct {
	key  pageKey
	raws [][]byte
	size int64
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), pages: map[pageKey]*list.Element{}}
}

func (c *cache) get(k pageKey) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.pages[k]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).raws
}

func (c *cache) put(k pageKey, raws [][]byte, size int64) {
	if size > c.limit/4 {
		return // one huge event is not worth all others
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pages[k]; ok {
		return
	}
	c.pages[k] = c.order.PushFront(&cached{k, raws, size})
	for c.used += size; c.used > c.limit; {
		e := c.order.Back()
		old := c.order.Remove(e).(*cached)
		delete(c.pages, old.key)
		c.used -= old.size
	}
}
