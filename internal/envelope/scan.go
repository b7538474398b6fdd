package envelope

import "whodunit/internal/audit"

// The cutter finds where values end and no more. It is lenient on purpose: it has no limit of depth and does not check
// what it skips, so that one event that audit.Parse refuses (nested too deep, say, which a client can bring about) does
// not take the rest of its batch with it. Every piece it cuts goes through audit.Parse.

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// stringEnd is the index behind the string that begins at b[i], or -1 where it does not end.
func stringEnd(b []byte, i int) int { return audit.SkipString(b, i) }

// valueEnd is the index behind the value that begins at b[i], or -1 where it does not end. Brackets are counted, not
// paired.
func valueEnd(b []byte, i int) int { return audit.SkipValue(b, i) }

// cutObject calls f with the name of each member of the object that begins at b[i], as it stands between its quotes, and with where its
// value begins; f gives the index behind the value. cutObject gives the index behind the object, -1 where that is damaged.
func cutObject(b []byte, i int, f func(name []byte, at int) int) int {
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		i = space(b, i)
		if i >= len(b) || b[i] != '"' {
			return -1
		}
		nameEnd := stringEnd(b, i)
		if nameEnd < 0 {
			return -1
		}
		name := b[i+1 : nameEnd-1]
		i = space(b, nameEnd)
		if i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = f(name, space(b, i+1)); i < 0 {
			return -1
		}
		i = space(b, i)
		if i >= len(b) || b[i] != ',' && b[i] != '}' {
			return -1
		}
		i++
		if b[i-1] == '}' {
			return i
		}
	}
}
