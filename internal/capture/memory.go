package capture

import (
	"strings"
	"sync"

	"github.com/stranglerfig/migrator/record"
)

// memoryKeys is of how many keys the last change is remembered, at least; twice as many at most.
const memoryKeys = 32 << 10

// memory has the versions of the last changes of some keys: those that changed last. It begins with the first
// change that leaves out a field: most tables have none.
type memory struct {
	mu           sync.Mutex
	used         bool
	young, older map[record.Key]record.Version
}

// knows reports whether the key's last change is remembered, and from now on all are.
func (m *memory) knows(key record.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = true
	_, known := m.get(key)
	return known
}

func (m *memory) version(key record.Key) (record.Version, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(key)
}

func (m *memory) get(key record.Key) (record.Version, bool) {
	v, known := m.young[key]
	if !known {
		v, known = m.older[key]
	}
	return v, known
}

// keep remembers items, but for those that are to be tried again: of these the change before is still the last
// one that the target may have.
func (m *memory) keep(items, again []item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.used {
		return
	}
	left := make(map[record.Key]bool, len(again))
	for _, i := range again {
		left[i.key] = true
	}
	for _, i := range items {
		if left[i.key] || i.version.IsZero() {
			continue
		}
		if len(m.young) >= memoryKeys {
			m.older, m.young = m.young, nil
		}
		if m.young == nil {
			m.young = map[record.Key]record.Version{}
		}
		// A key is a part of its row's text, and would keep the large values in memory too.
		m.young[record.Key(strings.Clone(string(i.key)))] = i.version
	}
}

// forget is for a stream that has left changes out.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.young, m.older = nil, nil
}
