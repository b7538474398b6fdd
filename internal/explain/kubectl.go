package explain

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"whodunit/internal/audit"
)

// Bytes of a command: of one word of it with its quotes, of what stands before `--`, and of the whole.
const (
	commandWord = 200
	commandHead = 768
	commandAll  = 1024
)

// Kubectl is the command that the person most likely typed for one request, told from its event alone: a command that makes several
// requests is told from its main one. typed is false where the user agent is not kubectl: the command is then what kubectl would be
// for this request. It is "" where kubectl has no word for it. Where only a body would tell and there is none, as in findings, the
// usual command is taken. `-f -` stands for a file, '<…>' for what no event says.
//
// The command is one line of at most about 1 KB: what is cut has a "…", with which kubectl fails. Every word is quoted for a shell.
func Kubectl(ev *audit.Event) (command string, typed bool) {
	r := newRequest(ev)
	l := r.line()
	if l.words == nil {
		return "", r.typed
	}
	return l.join(r), r.typed
}

// request is an event whose command is looked for.
type request struct {
	*audit.Event
	ref     audit.ObjectRef
	q       url.Values
	typed   bool   // kubectl made it
	manager string // fieldManager: a hint, since people can choose it
	unnamed bool   // by a kubectl that names a field manager for most commands, and did not
}

func newRequest(ev *audit.Event) *request {
	r := &request{Event: ev, ref: ev.ObjectRef, q: parameters(ev)}
	program, version, _ := strings.Cut(ShortAgent(ev.UserAgent), "/")
	r.typed = program == "kubectl" || program == "kubectl.exe"
	r.manager = r.q.Get("fieldManager")
	r.unnamed = r.typed && r.manager == "" && managed(version)
	return r
}

// managed reports whether kubectl of that version sends field managers: since 1.19.
func managed(version string) bool {
	minor, ok := strings.CutPrefix(version, "v1.")
	minor, _, _ = strings.Cut(minor, ".")
	n, err := strconv.Atoi(minor)
	return !ok || err != nil || n >= 19
}

// line is a command in parts.
type line struct {
	words   []string // kubectl's own: rollout restart
	objects []string // hostile text, as arguments
	flags   []string
	tail    []string // behind --
	bare    bool     // says itself where, or nothing is anywhere
}

func words(w ...string) line { return line{words: w} }

// on adds arguments.
func (l line) on(objects ...string) line {
	l.objects = append(l.objects, objects...)
	return l
}

// with adds flags that have no value.
func (l line) with(flags ...string) line {
	l.flags = append(l.flags, flags...)
	return l
}

// flag adds --name=value, or -n value, unless the value is empty.
func (l line) flag(name, value string) line {
	switch {
	case value == "":
	case strings.HasPrefix(name, "--"):
		l.flags = append(l.flags, name+"="+value)
	default:
		l.flags = append(l.flags, name, value)
	}
	return l
}

// alone says that no namespace belongs to the command.
func (l line) alone() line {
	l.bare = true
	return l
}

// join writes the command. Arguments that look like flags go behind --, or `delete pod --all` could be made of a pod's name.
func (l line) join(r *request) string {
	flags := append(append(r.where(l.bare), l.flags...), r.as()...)
	if l.words[0] != "diff" && r.dryRun() {
		flags = append(flags, "--dry-run=server")
	}
	head := append([]string{"kubectl"}, l.words...)
	var dashed bool
	for _, o := range l.objects {
		dashed = dashed || strings.HasPrefix(o, "-")
	}
	if dashed {
		flags = append(append(flags, "--"), l.objects...)
	} else {
		head = append(head, l.objects...)
	}
	var b strings.Builder
	appendWords(&b, append(head, flags...), commandHead)
	if l.tail != nil {
		appendWords(&b, append([]string{"--"}, l.tail...), commandAll)
	}
	return b.String()
}

// where is the namespace's flag.
func (r *request) where(bare bool) []string {
	switch {
	case bare:
	case r.ref.Namespace != "" && r.ref.Resource != "namespaces": // the API server puts a namespace into itself
		return []string{"-n", r.ref.Namespace}
	case r.Verb != "list" && r.Verb != "watch" && r.Verb != "deletecollection":
	default:
		if k, ok := r.kind(); !ok || !k.cluster {
			return []string{"-A"}
		}
	}
	return nil
}

// as is the flags of impersonation, but for the groups that the API server adds by itself. A few must do, so that the command
// behind them still has room.
func (r *request) as() (flags []string) {
	who := r.Impersonated
	if who.Username == "" {
		return nil
	}
	flags = append(flags, "--as="+who.Username)
	for _, g := range who.Groups {
		if g == "system:authenticated" || g == "system:unauthenticated" || strings.HasPrefix(who.Username, "system:serviceaccount:") && strings.HasPrefix(g, "system:serviceaccounts") {
			continue
		}
		if len(flags) == 3 {
			return append(flags, "…")
		}
		flags = append(flags, "--as-group="+g)
	}
	return flags
}

func (r *request) dryRun() bool {
	switch r.Verb {
	case "get", "list", "watch":
		return false
	}
	return dryRun(r.Event)
}

// kind is the object's kind, false if it is none of Kubernetes' own.
func (r *request) kind() (kind, bool) {
	for _, k := range kinds() {
		if k.plural == r.ref.Resource && contains(k.groups, r.ref.APIGroup) {
			return k, true
		}
	}
	return kind{}, false
}

// kindName is the kind as people type it: plural for collections; of an unknown group, resource.group.
func (r *request) kindName(plural bool) string {
	k, ok := r.kind()
	switch {
	case ok && plural:
		return k.plural
	case ok:
		return k.singular
	case r.ref.APIGroup != "":
		return r.ref.Resource + "." + r.ref.APIGroup
	}
	return r.ref.Resource
}

// object is the object as arguments: KIND NAME.
func (r *request) object() []string {
	if r.ref.Name == "" {
		return []string{r.kindName(true)}
	}
	return []string{r.kindName(false), r.ref.Name}
}

// pod is the pod as an argument that no command takes for a flag.
func (r *request) pod() string {
	if strings.HasPrefix(r.ref.Name, "-") {
		return "pod/" + r.ref.Name
	}
	return r.ref.Name
}

// appendWords quotes and appends words until b has most bytes.
func appendWords(b *strings.Builder, list []string, most int) {
	const cut = " …"
	for _, w := range list {
		q := shellWord(w)
		if b.Len()+1+len(q)+len(cut) > most {
			b.WriteString(cut)
			return
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(q)
	}
}

// shellWord is hostile text as one word for a shell: bare where that is safe in all of them, else in single quotes, unprintable
// characters as Go escapes, cut to 200 bytes.
func shellWord(s string) string {
	if s != "" && len(s) <= commandWord && s[0] != '=' && strings.Trim(s, bareCharacters) == "" || s == "…" {
		return s
	}
	var b strings.Builder
	b.WriteByte('\'')
	for i := 0; i < len(s); {
		ch, n := utf8.DecodeRuneInString(s[i:])
		var out string
		switch {
		case ch == '\'':
			out = `'\''`
		case ch == '\\' && (i+1 == len(s) || s[i+1] == '\'' || s[i+1] == '\\'): // fish takes such backslashes for escapes
			out = `'\\'`
		case ch == utf8.RuneError && n == 1:
			out = fmt.Sprintf(`\x%02x`, s[i])
		case unicode.IsPrint(ch):
			out = s[i : i+n]
		default:
			out = strconv.QuoteRuneToASCII(ch)
			out = out[1 : len(out)-1]
		}
		if b.Len()+len(out)+len("…'") > commandWord {
			b.WriteString("…")
			break
		}
		b.WriteString(out)
		i += n
	}
	b.WriteByte('\'')
	return b.String()
}

const bareCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:=@%+,"
