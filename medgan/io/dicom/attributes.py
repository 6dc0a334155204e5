"""Which attributes of source images still hold for an image that is derived from them (by keyword, DICOM PS3.6).

What is not listed is not copied: private elements, identifiers of instances and procedure steps, dates of creation,
and everything that describes pixels, slices or their making, which changed.
"""

from __future__ import annotations

# Patient and Clinical Trial Subject modules, PS3.3 C.7.1.1 and C.7.1.3.
PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "QualityControlSubject",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "StrainDescription",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
)

# General Study, Patient Study and Clinical Trial Study modules, C.7.2.1 to C.7.2.3.
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "PhysiciansOfRecord",
    "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "PregnancyStatus",
    "AdditionalPatientHistory",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalInformationModified",
    "TimezoneOffsetFromUTC",
)

# What was imaged, and where its coordinates begin: General Series C.7.3.1, Frame of Reference C.7.4.1.
SUBJECT = (
    "AnatomicalOrientationType",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "Laterality",
    "PatientPosition",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)

# When the data were acquired: General Acquisition C.7.10.1.
ACQUISITION = (
    "AcquisitionDateTime",
    "AcquisitionNumber",
    "ProtocolName",
)
# These two in single-frame images only.
ACQUISITION_DAY = ("AcquisitionDate", "AcquisitionTime")

# How contrast came about: MR Image C.8.3.1 and Contrast/Bolus C.7.6.4. Not of a translated image.
MR_CONTRAST = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "SequenceName",
    "AngioFlag",
    "RepetitionTime",
    "EchoTime",
    "EchoNumbers",
    "EchoTrainLength",
    "InversionTime",
    "FlipAngle",
    "VariableFlipAngleFlag",
    "NumberOfAverages",
    "ImagingFrequency",
    "ImagedNucleus",
    "MagneticFieldStrength",
    "ReceiveCoilName",
    "TransmitCoilName",
    "SAR",
    "dBdt",
    "TemporalPositionIdentifier",
    "NumberOfTemporalPositions",
    "DiffusionBValue",
)
CONTRAST_AGENT = (
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusRoute",
    "ContrastBolusVolume",
    "ContrastBolusStartTime",
    "ContrastBolusTotalDose",
    "ContrastBolusIngredient",
    "ContrastBolusIngredientConcentration",
)

# CT Image C.8.2.1.
CT_CONTRAST = (
    "IrradiationEventUID",
    "ScanOptions",
    "KVP",
    "RotationDirection",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "FilterType",
    "GeneratorPower",
    "FocalSpots",
    "ConvolutionKernel",
    "RevolutionTime",
    "SingleCollimationWidth",
    "TotalCollimationWidth",
    "SpiralPitchFactor",
    "ExposureModulationType",
    "CTDIvol",
)

# The scanner: General Equipment C.7.5.1. It goes into Contributing Equipment, because medgan made the derived image.
EQUIPMENT = (
    "Manufacturer",
    "InstitutionName",
    "InstitutionAddress",
    "StationName",
    "InstitutionalDepartmentName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "DateOfLastCalibration",
    "TimeOfLastCalibration",
)

# Copied for what they say of the new image; see `medgan.io.dicom.sources`.
JUDGED = (
    "SpecificCharacterSet",
    "Modality",
    "ImageType",
    "SeriesNumber",
    "SeriesDescription",
    "SliceThickness",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "SyntheticData",
    "ContributingEquipmentSequence",
    "ComplexImageComponent",
    "AcquisitionContrast",
    "ApplicableSafetyStandardAgency",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
)

# Attributes that must be there, with or without a value (type 2), beside those of the modality.
REQUIRED_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientPosition",
    "PositionReferenceIndicator",
)
REQUIRED_EMPTY_MR = (
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
)
REQUIRED_EMPTY_CT = ("KVP", "AcquisitionNumber")
