package fails

import "testing"

func TestBad(t *testing.T) {
	t.Run("sub", func(t *testing.T) { t.Error("the reason it failed") })
}
