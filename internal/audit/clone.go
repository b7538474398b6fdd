package audit

import (
	"bytes"
	"strings"
	"unsafe"
)

// Clone is e over memory of its own, of which no more is held than e needs.
func (e *Event) Clone() *Event {
	out := *e
	out.Raw = bytes.Clone(e.Raw)
	m := mover{e.Raw, out.Raw}
	for _, s := range [...]*string{&out.Kind, &out.APIVersion, (*string)(&out.Level), &out.AuditID, (*string)(&out.Stage), &out.RequestURI, &out.Verb,
		&out.UserAgent, &out.Response.Status, &out.Response.Reason, &out.Response.Message, &out.Decision, &out.Reason} {
		*s = m.text(*s)
	}
	out.Cluster = strings.Clone(e.Cluster)
	m.user(&out.User)
	m.user(&out.Impersonated)
	m.texts(&out.SourceIPs)
	r := &out.ObjectRef
	for _, s := range [...]*string{&r.Resource, &r.Namespace, &r.Name, &r.UID, &r.APIGroup, &r.APIVersion, &r.ResourceVersion, &r.Subresource} {
		*s = m.text(*s)
	}
	for _, b := range [...]*[]byte{&out.RequestObject, &out.ResponseObject, &out.Annotations} {
		*b = m.bytes(*b)
	}
	return &out
}

// mover finds in a copy what is a part of the original.
type mover struct{ from, to []byte }

func (m mover) user(u *User) {
	u.Username, u.UID, u.Extra = m.text(u.Username), m.text(u.UID), m.bytes(u.Extra)
	m.texts(&u.Groups)
}

func (m mover) texts(list *[]string) {
	if *list == nil {
		return
	}
	out := make([]string, len(*list))
	for i, s := range *list {
		out[i] = m.text(s)
	}
	*list = out
}

func (m mover) text(s string) string {
	return alias(m.bytes(unsafe.Slice(unsafe.StringData(s), len(s))))
}

// bytes is the place of b in the copy; what is not of the original, as text that had escapes, is copied by itself.
func (m mover) bytes(b []byte) []byte {
	if len(b) == 0 {
		return bytes.Clone(b)
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(m.from)))
	if n := uintptr(len(m.from)); at < n && uintptr(len(b)) <= n-at {
		end := at + uintptr(len(b))
		return m.to[at:end:end]
	}
	return bytes.Clone(b)
}
