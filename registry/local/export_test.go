package local

// OnStep calls f at every step of a write, so that a test can die there.
func (s *Store) OnStep(f func(point string)) { s.step = f }
