"""The pace at which a client must send a body."""

from dataclasses import dataclass

from service.settings import ServiceSettings


@dataclass(frozen=True)
class UploadPace:
    """Bounds of silence and of the average rate, in place of one on the total time.

    A photo over a slow line may take minutes; a client that only holds a connection open may not.
    `min_rate` is in bytes per second and holds after the first `grace_s` seconds.
    """

    silence_s: float
    grace_s: float
    min_rate: int

    @classmethod
    def from_settings(cls, settings: ServiceSettings) -> "UploadPace":
        """Return the pace of the settings."""
        return cls(settings.upload_silence_s, settings.upload_grace_s, settings.upload_min_rate)

    def patience_s(self, waited_s: float, received: int) -> float:
        """Return how many seconds to wait for the next bytes of an upload; 0 or less: none.

        `waited_s` were spent waiting for the `received` bytes.
        """
        average_holds_until = max(self.grace_s, received / self.min_rate)
        return min(self.silence_s, average_holds_until - waited_s)
