"""The course's own machinery: exercises that check themselves, panels, figures, lessons."""
