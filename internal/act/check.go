package act

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"whodunit/internal/alert/post"
)

var (
	// dnsLabel is what Kubernetes takes for names of namespaces (RFC 1123).
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// dnsName is what it takes for names of pods, nodes, secrets and most others, and for API groups.
	dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	// pathName is what we take of the names that may have more, those of roles and bindings: nothing that a path or URL gives a meaning.
	pathName   = regexp.MustCompile(`^[A-Za-z0-9:@_-][A-Za-z0-9:@._-]*$`)
	apiVersion = regexp.MustCompile(`^v[0-9]{1,3}((alpha|beta)[0-9]{1,3})?$`)
	labelKey   = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	nsPattern  = regexp.MustCompile(`^[-a-z0-9*]{1,63}$`)
	roleName   = regexp.MustCompile(`^(ClusterRole|Role)/[A-Za-z0-9:@_-][A-Za-z0-9:@._-]*$`)
	uidText    = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

const longestName = 253

func isName(s string) bool { return len(s) <= longestName && dnsName.MatchString(s) }

func isPathName(s string) bool { return len(s) <= longestName && pathName.MatchString(s) }

// denied are the namespaces in which nothing is ever done.
var denied = [...]string{"kube-system", "kube-public", "kube-node-lease"}

var kinds = [...]Kind{Label, Annotate, DeletePod, Evict, ScaleToZero, Cordon, DeleteBinding, RevertBinding, RevokeToken, Quarantine, Event, Webhook}

// Check says what is wrong with an action of the configuration; nil if nothing is.
func (a Action) Check() error {
	act, err := check(a)
	if err == nil && act.post != nil {
		act.post.Close()
	}
	return err
}

// check sets defaults.
func check(a Action) (*action, error) {
	act := &action{Action: a}
	if act.Rate == (Rate{}) {
		act.Rate = Rate{10, time.Hour}
	}
	if act.Cooldown == 0 {
		act.Cooldown = defaultCooldown
	}
	if act.Timeout == 0 {
		act.Timeout = defaultTimeout
	}
	if len(act.Resources) == 0 {
		act.Resources = []string{"pods"}
	}
	switch {
	case !dnsLabel.MatchString(a.Name):
		return nil, errors.New("name: lower-case letters, digits and hyphens are expected")
	case !slices.Contains(kinds[:], a.Kind):
		return nil, fmt.Errorf("kind %q: one of %q is expected", a.Kind, kinds)
	case act.Rate.N <= 0 || act.Rate.Per <= 0:
		return nil, errors.New("rate: a number above 0 and a time are expected")
	case act.Cooldown < 0 || act.Timeout < 0:
		return nil, errors.New("cooldown, timeout: no negative time is expected")
	case a.MinSeverity != "" && a.MinSeverity.Rank() == 0:
		return nil, fmt.Errorf("min_severity %q: info, low, medium, high or critical is expected", a.MinSeverity)
	case len(a.Namespaces) == 0 && !a.ClusterScoped:
		return nil, errors.New("namespaces: none is allowed, so nothing would be done")
	case a.Kind == Cordon && !a.ClusterScoped:
		return nil, errors.New("cluster_scoped: a node has no namespace, so cordon needs it")
	}
	if err := checkNamespaces(act); err != nil {
		return nil, err
	}
	if err := checkChanges(act); err != nil {
		return nil, err
	}
	if a.Kind == Webhook {
		var err error
		if act.post, err = post.New(a.Webhook); err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
	}
	return act, nil
}

func checkNamespaces(a *action) error {
	for _, ns := range slices.Concat(a.Namespaces, a.Deny) {
		if !nsPattern.MatchString(ns) {
			return fmt.Errorf("namespace %q: a name, with * for any text, is expected", ns)
		}
	}
	for _, ns := range a.Namespaces {
		if slices.Contains(denied[:], ns) {
			return fmt.Errorf("namespace %s: nothing is ever done there", ns)
		}
	}
	return nil
}

func checkChanges(a *action) error {
	if a.Kind == Label && len(a.Labels) == 0 || a.Kind == Annotate && len(a.Annotations) == 0 {
		return errors.New("labels, annotations: none to set")
	}
	for _, m := range []map[string]string{a.Labels, a.Annotations} {
		for k := range m {
			if !labelKey.MatchString(k) {
				return fmt.Errorf("label or annotation %q: a name, with a domain and a slash before it or not, is expected", k)
			}
		}
	}
	for _, r := range a.Resources {
		if !isName(r) {
			return fmt.Errorf("resource %q: a name as pods or deployments.apps is expected", r)
		}
	}
	for _, r := range a.BindRoles {
		if !roleName.MatchString(r) {
			return fmt.Errorf("role %q: ClusterRole/NAME or Role/NAME is expected", r)
		}
	}
	return nil
}

// matches reports whether one of the patterns, in which * stands for any text, is s.
func matches(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, s) })
}

// glob takes time in proportion to the pattern and the text: of each part between stars the first place is the best.
func glob(p, s string) bool {
	head, rest, star := strings.Cut(p, "*")
	if !star {
		return p == s
	}
	s, ok := strings.CutPrefix(s, head)
	if !ok {
		return false
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
